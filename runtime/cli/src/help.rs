//! `yado help`: of a verb, or of the configuration's keys.

use crate::command_line::Outcome;
use crate::output;
use clap::{Args, Command};
use std::process::ExitCode;
use yado_spec::reference;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Verbs, or `keys` and the key of an instance (`limits.memory`) or a network (`ipv4.nat`), a device type (`nic`) or its
    /// option (`nic.parent`)
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, root: Command) -> Outcome {
    let topic: Vec<&str> = arguments.topic.iter().map(String::as_str).collect();
    let text = match topic.as_slice() {
        ["keys"] => reference::markdown(),
        ["keys", name] => explain(name)?,
        verbs => help_of(root, verbs)?,
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn explain(name: &str) -> Result<String, String> {
    if let Some(text) = reference::explain(name) {
        return Ok(text);
    }
    // A part of a name is a question about all that have it.
    let names: Vec<String> = reference::names().into_iter().filter(|known| known.contains(name)).collect();
    if names.is_empty() {
        return Err(format!("no key is called {name}; `yado help keys` lists them all"));
    }
    Ok(format!("{}\n", names.join("\n")))
}

fn help_of(mut root: Command, verbs: &[&str]) -> Result<String, String> {
    root.build();
    let mut command = &mut root;
    for verb in verbs {
        command = command.find_subcommand_mut(verb).ok_or_else(|| format!("no verb is called {verb}"))?;
    }
    Ok(command.render_long_help().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_is_explained_and_a_part_of_one_is_completed() {
        assert!(explain("limits.memory").unwrap().starts_with("limits.memory"));
        assert!(explain("nic").unwrap().contains("parent"));
        assert!(explain("limits.mem").unwrap().lines().any(|line| line == "limits.memory"));
        assert!(explain("nonsense").is_err());
    }
}
