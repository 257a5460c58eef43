//! The tree of files that is to be packed, from whatever source: names, owners, modes, and where the contents lie.

use core::fmt;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A tree of nodes. The root is a directory and every name leads to a node, so writing it cannot go astray.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
}

/// Which node of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(usize);

/// One file, directory or special file. Several names can lead to one node: hard links.
#[derive(Debug, Clone)]
pub struct Node {
    /// Permission bits, set-id bits and the sticky bit.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes by their full names.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// When its content was changed last, in whole seconds since 1970; 0 for what is older. `None`: nobody said.
    pub modified: Option<u64>,
    /// What it is.
    pub body: Body,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Body {
    /// Names, and the nodes they lead to.
    Directory(BTreeMap<Vec<u8>, Place>),
    /// A regular file.
    File(Content),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Where a regular file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file of its own.
    Path {
        /// Which.
        path: PathBuf,
        /// Its length when it was found; reading fewer or more is an error.
        bytes: u64,
    },
    /// A part of the archive that the tree was read from.
    Archive {
        /// First byte.
        offset: u64,
        /// How many.
        bytes: u64,
    },
}

impl Content {
    /// Length of the file.
    pub fn bytes(&self) -> u64 {
        match self {
            Content::Path { path: _, bytes } | Content::Archive { offset: _, bytes } => *bytes,
        }
    }
}

/// Whose the files in the image are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As the source says.
    Kept,
    /// All the same, for a directory that an ordinary user made.
    All {
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl Tree {
    /// Where the root is.
    pub const ROOT: Place = Place(0);
    /// The kernel's `NAME_MAX`.
    pub const MAX_NAME_BYTES: usize = 255;
    /// The kernel's `PATH_MAX`.
    pub const MAX_PATH_BYTES: usize = 4096;

    /// Only a root, of mode 0755 and owned by 0:0.
    pub fn new() -> Tree {
        Tree { nodes: vec![Node::directory()] }
    }

    /// One node.
    pub fn node(&self, place: Place) -> &Node {
        &self.nodes[place.0]
    }

    /// How many nodes there are, reachable or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A tree always has its root.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Gives a path its node. Missing directories above are made; what had that name is replaced, but a directory
    /// that comes again keeps what is in it. So archives behave as when they are unpacked.
    pub fn insert(&mut self, path: &[u8], node: Node) -> Result<Place, TreeError> {
        let Some((parent, name)) = self.parent_of(path)? else {
            return self.replace_root(node);
        };
        let place = match (self.child(parent, name), &node.body) {
            (Some(old), Body::Directory(_)) if self.is_directory(old) => {
                self.replace_attributes(old, node);
                return Ok(old);
            }
            (Some(_) | None, _) => Place(self.nodes.len()),
        };
        self.nodes.push(node);
        self.link(parent, name, place);
        Ok(place)
    }

    /// Gives a path the node that another path has.
    pub fn insert_hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let place = self.find(target)?.ok_or_else(|| TreeError::NoLinkTarget { target: printable(target) })?;
        if self.is_directory(place) {
            return Err(TreeError::LinkToDirectory { target: printable(target) });
        }
        if let Some((parent, name)) = self.parent_of(path)? {
            self.link(parent, name, place);
        }
        Ok(())
    }

    /// The node a path leads to. Symbolic links are not followed.
    pub fn find(&self, path: &[u8]) -> Result<Option<Place>, TreeError> {
        let mut place = Self::ROOT;
        for name in names(path)? {
            match self.child(place, name) {
                Some(child) => place = child,
                None => return Ok(None),
            }
        }
        Ok(Some(place))
    }

    /// All nodes in the order in which they are written, each once: the children of one directory side by side in
    /// the order of their names, then what is below the first of them, and so on.
    pub fn in_order(&self) -> Vec<Place> {
        let mut seen = vec![false; self.nodes.len()];
        let mut order = vec![Self::ROOT];
        let mut directories = vec![Self::ROOT];
        seen[0] = true;
        while let Some(directory) = directories.pop() {
            let Body::Directory(entries) = &self.node(directory).body else { continue };
            let first = order.len();
            for &child in entries.values() {
                if !std::mem::replace(&mut seen[child.0], true) {
                    order.push(child);
                }
            }
            directories.extend(order[first..].iter().rev().filter(|&&child| self.is_directory(child)));
        }
        order
    }

    /// The latest time of all nodes; `None`: none of them has one.
    pub fn newest(&self) -> Option<u64> {
        self.nodes.iter().filter_map(|node| node.modified).max()
    }

    /// The length of all contents together.
    pub fn content_bytes(&self) -> u64 {
        let lengths = self.nodes.iter().map(|node| match &node.body {
            Body::File(content) => content.bytes(),
            _ => 0,
        });
        lengths.fold(0, u64::saturating_add)
    }

    /// A path that leads to a node, for messages.
    pub fn path_of(&self, wanted: Place) -> String {
        let mut waiting = vec![(Self::ROOT, String::new())];
        while let Some((place, path)) = waiting.pop() {
            if place == wanted {
                return if path.is_empty() { "/".to_owned() } else { path };
            }
            if let Body::Directory(entries) = &self.node(place).body {
                waiting
                    .extend(entries.iter().map(|(name, &child)| (child, format!("{path}/{}", name.escape_ascii()))));
            }
        }
        String::new()
    }

    fn is_directory(&self, place: Place) -> bool {
        matches!(self.node(place).body, Body::Directory(_))
    }

    fn child(&self, directory: Place, name: &[u8]) -> Option<Place> {
        match &self.node(directory).body {
            Body::Directory(entries) => entries.get(name).copied(),
            _ => None,
        }
    }

    fn link(&mut self, directory: Place, name: &[u8], child: Place) {
        if let Body::Directory(entries) = &mut self.nodes[directory.0].body {
            entries.insert(name.to_vec(), child);
        }
    }

    fn replace_root(&mut self, node: Node) -> Result<Place, TreeError> {
        match node.body {
            Body::Directory(_) => self.replace_attributes(Self::ROOT, node),
            _ => return Err(TreeError::RootNotDirectory),
        }
        Ok(Self::ROOT)
    }

    fn replace_attributes(&mut self, place: Place, node: Node) {
        let Node { mode, uid, gid, xattrs, modified, body: _ } = node;
        let old = &mut self.nodes[place.0];
        (old.mode, old.uid, old.gid, old.xattrs, old.modified) = (mode, uid, gid, xattrs, modified);
    }

    /// The directory that holds the last name of a path, and that name; `None` for the root.
    fn parent_of<'path>(&mut self, path: &'path [u8]) -> Result<Option<(Place, &'path [u8])>, TreeError> {
        let names = names(path)?;
        let Some((&last, above)) = names.split_last() else { return Ok(None) };
        let mut place = Self::ROOT;
        for name in above {
            place = match self.child(place, name) {
                Some(child) if self.is_directory(child) => child,
                Some(_) => return Err(TreeError::ThroughFile { path: printable(path) }),
                None => {
                    let made = Place(self.nodes.len());
                    self.nodes.push(Node::directory());
                    self.link(place, name, made);
                    made
                }
            };
        }
        Ok(Some((place, last)))
    }
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Node {
    fn directory() -> Node {
        let body = Body::Directory(BTreeMap::new());
        Node { mode: 0o755, uid: 0, gid: 0, xattrs: BTreeMap::new(), modified: None, body }
    }
}

/// Why a path does not fit into a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeError {
    /// It contains `..`.
    Climbs {
        /// The path.
        path: String,
    },
    /// It contains a NUL.
    Nul {
        /// The path.
        path: String,
    },
    /// A name or the whole is longer than the kernel allows.
    TooLong {
        /// The path.
        path: String,
    },
    /// It leads through something that is no directory.
    ThroughFile {
        /// The path.
        path: String,
    },
    /// A hard link to what does not exist (yet).
    NoLinkTarget {
        /// What it links to.
        target: String,
    },
    /// A hard link to a directory.
    LinkToDirectory {
        /// What it links to.
        target: String,
    },
    /// The root must be a directory.
    RootNotDirectory,
}

impl fmt::Display for TreeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeError::Climbs { path } => write!(out, "{path}: a path must not contain .."),
            TreeError::Nul { path } => write!(out, "{path}: a path must not contain a NUL"),
            TreeError::TooLong { path } => write!(out, "{path}: name or path too long"),
            TreeError::ThroughFile { path } => write!(out, "{path}: leads through something that is no directory"),
            TreeError::NoLinkTarget { target } => write!(out, "{target}: hard link to something not in the archive"),
            TreeError::LinkToDirectory { target } => write!(out, "{target}: hard link to a directory"),
            TreeError::RootNotDirectory => write!(out, "the root must be a directory"),
        }
    }
}

impl std::error::Error for TreeError {}

/// The names along a path; slashes at its ends and single dots do not count.
fn names(path: &[u8]) -> Result<Vec<&[u8]>, TreeError> {
    if Tree::MAX_PATH_BYTES < path.len() {
        return Err(TreeError::TooLong { path: printable(&path[..64]) });
    }
    if path.contains(&0) {
        return Err(TreeError::Nul { path: printable(path) });
    }
    let names: Vec<&[u8]> =
        path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    if names.contains(&b"..".as_slice()) {
        return Err(TreeError::Climbs { path: printable(path) });
    }
    if names.iter().any(|name| Tree::MAX_NAME_BYTES < name.len()) {
        return Err(TreeError::TooLong { path: printable(path) });
    }
    Ok(names)
}

fn printable(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(offset: u64) -> Node {
        Node { body: Body::File(Content::Archive { offset, bytes: 1 }), ..Node::directory() }
    }

    fn order(tree: &Tree) -> Vec<String> {
        let mut paths = BTreeMap::from([(Tree::ROOT, String::new())]);
        for place in tree.in_order() {
            if let Body::Directory(entries) = &tree.node(place).body {
                for (name, &child) in entries {
                    let path = format!("{}/{}", paths[&place], String::from_utf8_lossy(name));
                    paths.entry(child).or_insert(path);
                }
            }
        }
        tree.in_order().iter().map(|place| paths[place].clone()).collect()
    }

    #[test]
    fn nodes_come_by_directory_and_name_whatever_the_order_they_were_found_in() {
        let mut tree = Tree::new();
        for path in ["c/z", "b/x/deep", "b/y", "a"] {
            tree.insert(path.as_bytes(), file(0)).unwrap();
        }
        assert_eq!(order(&tree), ["", "/a", "/b", "/c", "/b/x", "/b/y", "/b/x/deep", "/c/z"]);
    }

    #[test]
    fn what_comes_later_replaces_a_file_and_keeps_a_directory() {
        let mut tree = Tree::new();
        tree.insert(b"d/f", file(1)).unwrap();
        tree.insert(b"d", Node { mode: 0o700, ..Node::directory() }).unwrap();
        tree.insert(b"d/f", file(2)).unwrap();
        let directory = tree.find(b"d").unwrap().unwrap();
        assert_eq!(tree.node(directory).mode, 0o700);
        let Body::File(content) = &tree.node(tree.find(b"/d//f").unwrap().unwrap()).body else { panic!() };
        assert_eq!(content, &Content::Archive { offset: 2, bytes: 1 });
        assert_eq!(order(&tree).len(), 3);
    }

    #[test]
    fn hard_links_share_a_node_and_need_a_target() {
        let mut tree = Tree::new();
        tree.insert(b"a/f", file(1)).unwrap();
        tree.insert_hard_link(b"b/g", b"./a/f").unwrap();
        assert_eq!(tree.find(b"b/g").unwrap(), tree.find(b"a/f").unwrap());
        assert_eq!(order(&tree).len(), 4);
        assert!(matches!(tree.insert_hard_link(b"h", b"nowhere"), Err(TreeError::NoLinkTarget { .. })));
        assert!(matches!(tree.insert_hard_link(b"h", b"a"), Err(TreeError::LinkToDirectory { .. })));
    }

    #[test]
    fn paths_that_climb_or_do_not_fit_are_refused() {
        let mut tree = Tree::new();
        tree.insert(b"file", file(1)).unwrap();
        let long = [b'x'; 256];
        let deep = [b"x/".as_slice(); 2049].concat();
        assert!(matches!(tree.insert(b"../x", file(1)), Err(TreeError::Climbs { .. })));
        assert!(matches!(tree.insert(b"a/../../x", file(1)), Err(TreeError::Climbs { .. })));
        assert!(matches!(tree.insert(b"a\0b", file(1)), Err(TreeError::Nul { .. })));
        assert!(matches!(tree.insert(&long, file(1)), Err(TreeError::TooLong { .. })));
        assert!(matches!(tree.insert(&deep, file(1)), Err(TreeError::TooLong { .. })));
        assert!(matches!(tree.insert(b"file/x", file(1)), Err(TreeError::ThroughFile { .. })));
        assert!(matches!(tree.insert(b"/", file(1)), Err(TreeError::RootNotDirectory)));
    }
}
