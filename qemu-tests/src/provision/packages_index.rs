//! The stanzas that `apt-cache show` prints: only the fields that we use.

/// One package of one suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stanza {
    /// `Package:`
    pub(crate) package: String,
    /// `Architecture:`, which may be `all`.
    pub(crate) architecture: String,
    /// `Version:`
    pub(crate) version: String,
    /// `SHA256:` of the file: what the package is.
    pub(crate) sha256: String,
    /// `Size:` of the file.
    pub(crate) size_bytes: u64,
    depends: String,
}

impl Stanza {
    /// The names in `Depends:` and `Pre-Depends:`; of alternatives the first.
    pub(crate) fn needs(&self) -> Vec<String> {
        parse_needs(&self.depends)
    }
}

/// Parses what apt-cache printed. A stanza without one of the fields that make a download safe is left out.
pub(crate) fn parse_stanzas(text: &str) -> Vec<Stanza> {
    text.split("\n\n").filter_map(parse_stanza).collect()
}

fn parse_stanza(text: &str) -> Option<Stanza> {
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim().to_owned())
    };
    let depends = [field("Pre-Depends"), field("Depends")].into_iter().flatten().collect::<Vec<_>>().join(", ");
    Some(Stanza {
        package: field("Package")?,
        architecture: field("Architecture")?,
        version: field("Version")?,
        sha256: field("SHA256").filter(|digest| digest.len() == 64)?,
        size_bytes: field("Size")?.parse().ok()?,
        depends,
    })
}

/// `a (>= 1), b:any | c, d` → `a`, `b`, `d`.
fn parse_needs(depends: &str) -> Vec<String> {
    let first_name = |group: &str| {
        let end = group.trim_start().find([' ', ':', '|', '(']);
        let group = group.trim_start();
        group[..end.unwrap_or(group.len())].to_owned()
    };
    depends.split(',').map(first_name).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "\
Package: libcrun0
Architecture: arm64
Version: 1.8.1-1+deb12u1
Depends: libc6 (>= 2.34), libcap2 (>= 1:2.10), libyajl2:any (>= 2.0.4) | libyajl3,
Pre-Depends: init-system-helpers
Description: text
 Depends: not a field, the line is indented
Filename: pool/main/c/crun/x.deb
Size: 1234
SHA256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa

Package: torn
Architecture: arm64
Version: 1
Size: 12
";

    #[test]
    fn a_stanza_gives_its_fields_and_one_without_a_digest_is_left_out() {
        let stanzas = parse_stanzas(SHOWN);
        assert_eq!(stanzas.len(), 1, "{stanzas:?}");
        assert_eq!(stanzas[0].package, "libcrun0");
        assert_eq!(stanzas[0].version, "1.8.1-1+deb12u1");
        assert_eq!(stanzas[0].size_bytes, 1234);
        assert_eq!(stanzas[0].needs(), ["init-system-helpers", "libc6", "libcap2", "libyajl2"]);
    }

    #[test]
    fn nothing_shown_is_no_package() {
        assert_eq!(parse_stanzas(""), []);
        assert_eq!(parse_needs(""), Vec::<String>::new());
    }
}
