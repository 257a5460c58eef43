//! What a partition holds, by its first bytes: whether it may be formatted, and where an existing file system ends. Pure.

/// So many of the first bytes are looked at: btrfs has its superblock at 64 KiB, the others before.
pub const HEAD_BYTES: usize = 68 * 1024;

/// What the first bytes of a partition are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing was ever written there.
    Blank,
    /// ext2, ext3 or ext4, in order.
    Ext4Clean,
    /// The same, not unmounted or with errors noted.
    Ext4Dirty,
    /// f2fs.
    F2fs,
    /// btrfs.
    Btrfs,
    /// Something else. It may be somebody's, so it is not formatted.
    Unknown,
}

/// Judges the first [`HEAD_BYTES`] of a partition, or fewer if it is shorter.
pub fn judge(head: &[u8]) -> Content {
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    // Offsets and values: fs/ext4/ext4.h, struct ext4_super_block; include/linux/f2fs_fs.h; btrfs's _BHRfS_M.
    if at(1024 + 0x38, &[0x53, 0xef]) {
        const STATE_VALID: u16 = 1;
        const STATE_ERRORS: u16 = 2;
        const INCOMPAT_RECOVER: u16 = 4;
        let state = u16::from_le_bytes(bytes_at(head, 1024 + 0x3a));
        let needs_recovery = u16::from_le_bytes(bytes_at(head, 1024 + 0x60)) & INCOMPAT_RECOVER != 0;
        let is_clean = state & STATE_VALID != 0 && state & STATE_ERRORS == 0 && !needs_recovery;
        return if is_clean { Content::Ext4Clean } else { Content::Ext4Dirty };
    }
    if at(1024, &0xf2f5_2010_u32.to_le_bytes()) {
        return Content::F2fs;
    }
    if at(65536 + 0x40, b"_BHRfS_M") {
        return Content::Btrfs;
    }
    // Erased flash reads as ones.
    let is_blank = head.iter().all(|byte| *byte == 0) || head.iter().all(|byte| *byte == 0xff);
    if is_blank { Content::Blank } else { Content::Unknown }
}

/// Whether the byte at `offset` of the partition belongs to the file system that [`judge`] finds: then it may be a file's
/// content, and whoever may write a file may have written it.
pub fn covers(head: &[u8], offset: u64) -> bool {
    match judge(head) {
        Content::Ext4Clean | Content::Ext4Dirty => offset < ext4_bytes(head),
        // Their makers use all there is, and need not be asked where they end: we make neither.
        Content::F2fs | Content::Btrfs => true,
        Content::Blank | Content::Unknown => false,
    }
}

/// How long the file system is. What no kernel mounts is endless, so that it covers everything.
fn ext4_bytes(head: &[u8]) -> u64 {
    const INCOMPAT_64BIT: u16 = 0x80;
    /// `EXT4_MAX_BLOCK_LOG_SIZE`: blocks of 64 KiB.
    const MAX_LOG_BLOCK_KIB: u32 = 6;
    // s_blocks_count_lo, s_log_block_size, s_feature_incompat, s_blocks_count_hi.
    let low = u32::from_le_bytes(bytes_at(head, 1024 + 4));
    let log_block_kib = u32::from_le_bytes(bytes_at(head, 1024 + 0x18));
    let is_64bit = u16::from_le_bytes(bytes_at(head, 1024 + 0x60)) & INCOMPAT_64BIT != 0;
    let high = if is_64bit { u32::from_le_bytes(bytes_at(head, 1024 + 0x150)) } else { 0 };
    if MAX_LOG_BLOCK_KIB < log_block_kib {
        return u64::MAX;
    }
    ((u64::from(high) << 32) | u64::from(low)).saturating_mul(1024 << log_block_kib)
}

/// Zeros where the partition is too short.
fn bytes_at<const N: usize>(head: &[u8], offset: usize) -> [u8; N] {
    head.get(offset..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; HEAD_BYTES];
        for (offset, bytes) in parts {
            head[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    #[test]
    fn only_what_was_never_written_is_blank() {
        let table: &[(Vec<u8>, Content)] = &[
            (head(&[]), Content::Blank),
            (vec![0xff; HEAD_BYTES], Content::Blank),
            (Vec::new(), Content::Blank),
            // s_magic and s_state at 0x38, s_feature_incompat at 0x60 of the superblock.
            (head(&[(1080, &[0x53, 0xef, 1, 0])]), Content::Ext4Clean),
            (head(&[(1080, &[0x53, 0xef, 0, 0])]), Content::Ext4Dirty),
            (head(&[(1080, &[0x53, 0xef, 3, 0])]), Content::Ext4Dirty),
            (head(&[(1080, &[0x53, 0xef, 1, 0]), (1120, &[0x46, 2])]), Content::Ext4Dirty),
            (head(&[(1024, &[0x10, 0x20, 0xf5, 0xf2])]), Content::F2fs),
            (head(&[(65600, b"_BHRfS_M")]), Content::Btrfs),
            (head(&[(510, &[0x55, 0xaa])]), Content::Unknown),
            (head(&[(60000, &[1])]), Content::Unknown),
        ];
        for (number, (head, content)) in table.iter().enumerate() {
            assert_eq!(judge(head), *content, "line {number}");
        }
    }

    #[test]
    fn a_file_system_covers_what_lies_before_its_end() {
        // s_magic; s_blocks_count_lo, s_log_block_size, s_feature_incompat and s_blocks_count_hi.
        let ext4 = |low: u32, log_block_kib: u32, incompat: u16, high: u32| {
            head(&[
                (1080, &[0x53, 0xef, 1, 0]),
                (1028, &low.to_le_bytes()),
                (1048, &log_block_kib.to_le_bytes()),
                (1120, &incompat.to_le_bytes()),
                (1360, &high.to_le_bytes()),
            ])
        };
        const GIB: u64 = 1 << 30;
        let table: &[(Vec<u8>, u64, bool)] = &[
            (ext4(65536, 0, 0x42, 0), (64 << 20) - 512, true),
            (ext4(65536, 0, 0x42, 0), 64 << 20, false),
            (ext4(65532, 0, 0x42, 0), (64 << 20) - 512, false),
            // Not unmounted, it is a file system all the same.
            (ext4(65536, 0, 0x46, 0), (64 << 20) - 512, true),
            (ext4(262_144, 2, 0x42, 0), GIB - 512, true),
            (ext4(262_143, 2, 0x42, 0), GIB - 512, false),
            // 16 TiB and more; without the feature, what lies there is not a number of blocks.
            (ext4(0, 2, 0xc2, 1), (16 << 40) - 512, true),
            (ext4(0, 2, 0x42, 1), 1 << 20, false),
            (ext4(1, 7, 0x42, 0), 1 << 40, true),
            (ext4(u32::MAX, 6, 0xc2, u32::MAX), u64::MAX - 1, true),
            (head(&[(1024, &[0x10, 0x20, 0xf5, 0xf2])]), 1 << 40, true),
            (head(&[(65600, b"_BHRfS_M")]), 1 << 40, true),
            (head(&[]), 0, false),
            (head(&[(510, &[0x55, 0xaa])]), 0, false),
            (vec![0; 10], 0, false),
        ];
        for (number, (head, offset, covered)) in table.iter().enumerate() {
            assert_eq!(covers(head, *offset), *covered, "line {number}");
        }
    }
}
