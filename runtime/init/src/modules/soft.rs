//! `modules.softdep`: modules that should be loaded with another one that does not need their symbols (a checksum that is asked
//! for by name, a codec). Pure.

/// One module's soft dependencies: names or aliases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Soft {
    /// Before it.
    pub before: Vec<String>,
    /// After it.
    pub after: Vec<String>,
}

/// The soft dependencies of the module with this (normalised) name; several lines add up.
pub fn find(list: &str, name: &str) -> Soft {
    let mut soft = Soft::default();
    for line in list.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("softdep")
            || words.next().map(super::dependencies::normalised).as_deref() != Some(name)
        {
            continue;
        }
        let mut into = None;
        for word in words {
            match word {
                "pre:" => into = Some(true),
                "post:" => into = Some(false),
                _ => match into {
                    Some(true) => soft.before.push(word.to_owned()),
                    Some(false) => soft.after.push(word.to_owned()),
                    None => {}
                },
            }
        }
    }
    soft
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_add_up() {
        // The first three lines are Debian's.
        let list = "# Soft dependencies extracted from modules themselves.\n\
            softdep libcrc32c pre: crc32c\n\
            softdep btrfs pre: crc32c pre: xxhash64 pre: sha256\n\
            softdep a-b pre: x y post: z\nsoftdep a_b post: w\nsoftdep\nsoftdep a_b lost\n";
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(find(list, "libcrc32c"), Soft { before: words(&["crc32c"]), after: Vec::new() });
        assert_eq!(find(list, "btrfs").before, words(&["crc32c", "xxhash64", "sha256"]));
        assert_eq!(find(list, "a_b"), Soft { before: words(&["x", "y"]), after: words(&["z", "w"]) });
        assert_eq!(find(list, "nothing"), Soft::default());
    }
}
