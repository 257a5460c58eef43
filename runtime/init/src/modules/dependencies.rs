//! `modules.dep`: each module's file and the files it needs, all of them, the deepest last. Pure.

/// One module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module<'a> {
    /// Its file, below the directory of the list.
    pub path: &'a str,
    /// What it needs, the deepest last.
    pub needs: Vec<&'a str>,
}

/// The module of this name.
pub fn find<'a>(list: &'a str, name: &str) -> Option<Module<'a>> {
    list.lines().find_map(|line| {
        let (path, needs) = line.split_once(':')?;
        is_name_of(path, name).then(|| Module { path, needs: needs.split_whitespace().collect() })
    })
}

/// Whether `modules.builtin` lists it.
pub fn is_builtin(list: &str, name: &str) -> bool {
    list.lines().any(|path| is_name_of(path, name))
}

/// A file's module name: `kernel/net/nf-x.ko.xz` is `nf_x`.
pub fn name_of(path: &str) -> String {
    normalised(stem(path))
}

/// The kernel does not tell dashes from underscores.
pub fn normalised(name: &str) -> String {
    name.replace('-', "_")
}

fn is_name_of(path: &str, name: &str) -> bool {
    let plain = |byte: u8| if byte == b'-' { b'_' } else { byte };
    stem(path).bytes().map(plain).eq(name.bytes().map(plain))
}

fn stem(path: &str) -> &str {
    let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
    file.split_once(".ko").map_or(file, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Lines of Debian's 6.1.0-50-arm64 and 6.12.95-arm64.
    const LIST: &str = "\
kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko\n\
kernel/drivers/md/dm-verity.ko.xz: kernel/drivers/md/dm-bufio.ko.xz kernel/drivers/md/dm-mod.ko.xz\n\
kernel/lib/libcrc32c.ko:\n";

    #[test]
    fn modules_are_found_whatever_their_dashes() {
        let expected = Module {
            path: "kernel/drivers/md/dm-verity.ko.xz",
            needs: vec!["kernel/drivers/md/dm-bufio.ko.xz", "kernel/drivers/md/dm-mod.ko.xz"],
        };
        assert_eq!(find(LIST, "dm_verity"), Some(expected.clone()));
        assert_eq!(find(LIST, "dm-verity"), Some(expected));
        assert_eq!(find(LIST, "libcrc32c").map(|module| module.needs.len()), Some(0));
        assert_eq!(find(LIST, "dm"), None);
        assert_eq!(find("no colon\n:\n", "x"), None);
    }

    #[test]
    fn names_come_from_files() {
        assert_eq!(name_of("kernel/drivers/md/dm-verity.ko.xz"), "dm_verity");
        assert_eq!(name_of("x.ko"), "x");
        assert!(is_builtin("kernel/fs/ext4/ext4.ko\nkernel/a-b.ko\n", "a_b"));
        assert!(!is_builtin("kernel/fs/ext4/ext4.ko\n", "ext"));
    }
}
