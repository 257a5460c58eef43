//! What a build made, read from the messages that cargo prints for programs.

use std::path::PathBuf;

use serde::Deserialize;

/// A program that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The binary's name.
    pub name: String,
    /// Where it is, stripped and ready to be copied.
    pub path: PathBuf,
    /// It was there already: nothing had to be compiled for it.
    pub is_fresh: bool,
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
    #[serde(default)]
    fresh: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Parses `--message-format=json`. Lines of other kinds, and those that are no JSON, are none of ours.
pub(crate) fn parse_messages(text: &str) -> Vec<Artifact> {
    text.lines().filter_map(parse_message).collect()
}

fn parse_message(line: &str) -> Option<Artifact> {
    match serde_json::from_str(line).ok()? {
        Message { reason, target: Some(Target { name }), executable: Some(path), fresh: is_fresh }
            if reason == "compiler-artifact" =>
        {
            Some(Artifact { name, path, is_fresh })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_are_artifacts() {
        let text = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"libc","kind":["lib"]},"executable":null}"#,
            "\n",
            r#"{"reason":"build-script-executed","package_id":"x"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"yado-init","kind":["bin"]},"executable":"/t/yado-init","fresh":true}"#,
            "\nnot json\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let wanted = Artifact { name: "yado-init".to_owned(), path: PathBuf::from("/t/yado-init"), is_fresh: true };
        assert_eq!(parse_messages(text), [wanted]);
        assert_eq!(parse_messages(""), []);
    }
}
