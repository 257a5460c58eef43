//! The metadata area: where each inode lies in it.

use super::BLOCK;
use super::inode::{Inode, Stored};

/// Places are counted in units of this many bytes.
pub(super) const UNIT_BYTES: usize = 32;

/// Gives out places, one inode after the other. What the kernel reads at once, an inode with its attributes and an
/// inline tail, lies in one block; an index of clusters may reach over several. What a block has left is used by later
/// inodes that fit in.
#[derive(Debug, Default)]
pub(super) struct Area {
    used_bytes: usize,
    gaps: Vec<Gap>,
}

#[derive(Debug)]
struct Gap {
    start: usize,
    bytes: usize,
}

impl Area {
    /// The place of the next inode, in units. The first gets 0.
    pub(super) fn place(&mut self, inode: &Inode) -> usize {
        let bytes = inode.encoded_bytes().next_multiple_of(UNIT_BYTES);
        if let Some(gap) = self.gaps.iter_mut().find(|gap| bytes <= gap.bytes) {
            let start = gap.start;
            *gap = Gap { start: start + bytes, bytes: gap.bytes - bytes };
            return start / UNIT_BYTES;
        }
        let together = match inode.stored {
            Stored::Inline { .. } => inode.encoded_bytes(),
            Stored::Plain { .. } | Stored::Compressed { .. } | Stored::Special { .. } => inode.head_bytes(),
        };
        let left = self.used_bytes.next_multiple_of(BLOCK) - self.used_bytes;
        if left < together && 0 < left {
            self.gaps.retain(|gap| UNIT_BYTES <= gap.bytes);
            self.gaps.truncate(MAX_GAPS - 1);
            self.gaps.push(Gap { start: self.used_bytes, bytes: left });
            self.used_bytes += left;
        }
        let start = self.used_bytes;
        self.used_bytes += bytes;
        start / UNIT_BYTES
    }
}

/// Enough that little is lost, and few enough to look at for each inode.
const MAX_GAPS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(stored: Stored) -> Inode {
        Inode { mode: 0, uid: 0, gid: 0, links: 1, bytes: 0, modified: None, xattrs: Vec::new(), stored }
    }

    #[test]
    fn tails_stay_in_one_block_and_gaps_are_filled() {
        let mut area = Area::default();
        let tail = |bytes| inode(Stored::Inline { block: 0, tail: vec![0; bytes] });
        let index = |bytes| inode(Stored::Compressed { blocks: 1, index: vec![0; bytes] });
        assert_eq!(area.place(&tail(3000)), 0);
        assert_eq!(area.place(&tail(4064)), 128);
        assert_eq!(area.place(&tail(900)), 95);
        assert_eq!(area.place(&index(10_000)), 256);
        assert_eq!(area.place(&inode(Stored::Plain { block: 0 })), 125);
    }
}
