//! A directory's content: blocks of entries, each block complete in itself. First the entries of 12 bytes (node, where
//! the name begins, type), then the names, without anything between them. Sorted by bytes throughout, so that the
//! kernel can search; `.` and `..` are sorted in with the others.

use super::BLOCK;

/// One name in a directory and what it leads to. `Target` is the node's place, once that is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'name, Target> {
    /// The name.
    pub(super) name: &'name [u8],
    /// What it leads to.
    pub(super) target: Target,
    /// The number of its type.
    pub(super) kind: u8,
}

/// The length of the content with these entries, sorted by name. It does not depend on what they lead to.
pub(super) fn content_bytes<T>(entries: &[Entry<'_, T>]) -> usize {
    let blocks = split_blocks(entries);
    let last = blocks.last().map_or(0, |block| block_bytes(block));
    blocks.len().saturating_sub(1) * BLOCK + last
}

/// The content with these entries, sorted by name.
pub(super) fn encode(entries: &[Entry<'_, u64>]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in split_blocks(entries) {
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        let mut name_at = block.len() * ENTRY_BYTES;
        for Entry { name, target, kind } in block {
            out.extend(target.to_le_bytes());
            out.extend((name_at as u16).to_le_bytes());
            out.extend([*kind, 0]);
            name_at += name.len();
        }
        block.iter().for_each(|entry| out.extend(entry.name));
    }
    out
}

const ENTRY_BYTES: usize = 12;

fn split_blocks<'all, 'name, T>(entries: &'all [Entry<'name, T>]) -> Vec<&'all [Entry<'name, T>]> {
    let mut blocks = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let fitting = rest.iter().take_while(|entry| {
            used += ENTRY_BYTES + entry.name.len();
            used <= BLOCK
        });
        let (block, after) = rest.split_at(fitting.count());
        blocks.push(block);
        rest = after;
    }
    blocks
}

fn block_bytes<T>(block: &[Entry<'_, T>]) -> usize {
    block.iter().map(|entry| ENTRY_BYTES + entry.name.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_its_entries_then_their_names() {
        let entries = [
            Entry { name: b".", target: 0x24, kind: 2 },
            Entry { name: b"..", target: 0x24, kind: 2 },
            Entry { name: b"file", target: 0x0102, kind: 1 },
        ];
        let expected = [
            [0x24, 0, 0, 0, 0, 0, 0, 0, 36, 0, 2, 0].as_slice(),
            &[0x24, 0, 0, 0, 0, 0, 0, 0, 37, 0, 2, 0],
            &[2, 1, 0, 0, 0, 0, 0, 0, 39, 0, 1, 0],
            b"...file",
        ]
        .concat();
        assert_eq!(encode(&entries), expected);
        assert_eq!(content_bytes(&entries), expected.len());
    }

    #[test]
    fn no_entry_is_split_between_blocks() {
        let names: Vec<String> = (0..100).map(|index| format!("{index:0200}")).collect();
        let entries: Vec<_> = names.iter().map(|name| Entry { name: name.as_bytes(), target: 1, kind: 1 }).collect();
        // 19 entries of 212 bytes make 4028; 100 are 5 full blocks and one of 5.
        assert_eq!(content_bytes(&entries), 5 * 4096 + 5 * 212);
        assert_eq!(encode(&entries).len(), content_bytes(&entries));
    }
}
