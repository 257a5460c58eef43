//! What is on a partition, by its first bytes: the question is whether it may be formatted. Pure.

/// So many of the first bytes are looked at: btrfs has its superblock at 64 KiB, the others before.
pub const HEAD_BYTES: usize = 68 * 1024;

/// What was found.
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
        let state = u16_at(head, 1024 + 0x3a);
        let needs_recovery = u16_at(head, 1024 + 0x60) & INCOMPAT_RECOVER != 0;
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

fn u16_at(head: &[u8], offset: usize) -> u16 {
    head.get(offset..).and_then(|rest| rest.first_chunk::<2>()).map_or(0, |bytes| u16::from_le_bytes(*bytes))
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
}
