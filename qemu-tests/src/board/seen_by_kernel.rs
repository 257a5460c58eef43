//! What the kernel of a board shows of what init or netd says: processes by their group and their name space, addresses by their
//! link. It is asked by programs that are not under test.

use crate::board::agent::AgentError;
use crate::board::{Board, BoardError};
use serde_json::Value;
use std::time::Duration;

/// The kernel answers at once, on an emulator that may be busy.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What there is of the instance `$1`: processes by their group, and the group itself. What was ended a moment ago is looked at again.
const REMAINS: &str = r#"
for try in $(seq 10); do
    left=$(ls -d /sys/fs/cgroup/instances/$1.* 2>/dev/null
        grep -l "instances/$1\." /proc/[0-9]*/cgroup 2>/dev/null)
    [ -n "$left" ] || break
    sleep 0.3
done
echo $left
"#;

/// What was seen, and whether it is as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// For people.
    pub shown: String,
    /// Whether it is so.
    pub holds: bool,
}

impl Board {
    /// Whether the process `pid`, by which a status names the first one of `instance`, is that.
    pub fn first_process(&self, instance: &str, pid: &Value) -> Seen {
        let read = |file: &str| self.agent.read_file(&format!("/proc/{pid}/{file}"));
        match read("cgroup").and_then(|group| Ok((group, read("status")?))) {
            Ok((group, status)) => first_process(instance, &group, &status),
            Err(error) => Seen { shown: format!("pid {pid}: {error}"), holds: false },
        }
    }

    /// Processes and group of an instance that is to have none: nothing, when it is so.
    pub fn remains(&self, instance: &str) -> Result<String, BoardError> {
        let argv = ["/bin/sh", "-c", REMAINS, "remains", instance];
        let said = self.agent.output(&argv, TIMEOUT).map_err(BoardError::Agent)?;
        Ok(said.trim().to_owned())
    }

    /// How long its kernel has run, by its own clock.
    pub fn uptime(&self) -> Result<Duration, BoardError> {
        const FILE: &str = "/proc/uptime";
        let text = self.agent.read_file(FILE).map_err(BoardError::Agent)?;
        uptime(&text).ok_or(BoardError::Agent(AgentError::Failed { what: FILE.to_owned(), reason: text }))
    }

    /// Waits for the address that netd says an instance's interface was leased.
    pub fn wait_lease(&self, instance: &str, timeout: Duration) -> Result<String, BoardError> {
        self.wait_status(&format!("lease of {instance}"), timeout, |status| {
            let links = status["links"].as_array()?;
            let nic = links.iter().find(|link| link["role"] == "nic" && link["instance"] == instance)?;
            nic["addresses"][0].as_str().map(str::to_owned)
        })
    }

    /// Whether a link has the addresses that a status says of it.
    pub fn has_addresses(&self, link: &Value) -> Result<Seen, BoardError> {
        let name = link["name"].as_str().unwrap_or_default();
        let argv = ["/bin/ip", "-4", "-o", "addr", "show", "dev", name];
        let said = self.agent.output(&argv, TIMEOUT).map_err(BoardError::Agent)?;
        Ok(addresses(link, &said))
    }
}

/// Of `/proc/PID/net/fib_trie`, where a name space has it as `|-- 10.158.0.12` and `/32 host LOCAL`: each address of its own.
pub fn own_addresses(table: &str) -> impl Iterator<Item = &str> {
    let lines = table.lines().map(str::trim).zip(table.lines().skip(1));
    lines.filter_map(|(line, next)| line.strip_prefix("|-- ").filter(|_| next.contains("/32 host LOCAL")))
}

/// Whether an address, also with the length of its network, is one of them.
pub fn has_inside(table: &str, address: &str) -> bool {
    let wanted = address.split('/').next();
    own_addresses(table).any(|own| Some(own) == wanted)
}

/// By `/proc/PID/cgroup` and `/proc/PID/status`: it is in the instance's group, and has number 1 in its own name space.
fn first_process(instance: &str, group: &str, status: &str) -> Seen {
    let group = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    let is_inside = group.starts_with(&format!("/instances/{instance}."));
    Seen {
        shown: format!("pid {} in {group}", numbers.join(", inside ")),
        holds: is_inside && matches!(numbers.as_slice(), [_, "1"]),
    }
}

/// By `ip -o addr`: `2: eth0    inet 10.0.2.15/24 brd …`.
fn addresses(link: &Value, said: &str) -> Seen {
    let of_kernel = || said.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next());
    let told = link["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let told: Vec<&str> = told.filter_map(|address| address.split('/').next()).collect();
    let are_there = told.iter().all(|address| address.contains(':') || of_kernel().any(|there| there == *address));
    Seen {
        shown: format!(
            "{}: {}",
            link["name"].as_str().unwrap_or("no link"),
            of_kernel().collect::<Vec<_>>().join(" ")
        ),
        holds: !told.is_empty() && are_there,
    }
}

/// The first number of /proc/uptime, in seconds: proc(5).
fn uptime(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_process_is_in_the_instances_group_and_has_number_one_inside() {
        let of = |group: &str, numbers: &str| {
            first_process("crab", group, &format!("Name:\tinit\nNSpid:\t{numbers}\nVmRSS:\t4 kB\n"))
        };
        let seen = of("0::/instances/crab.3/init.scope\n", "301\t1");
        assert_eq!(seen, Seen { shown: "pid 301, inside 1 in /instances/crab.3/init.scope".to_owned(), holds: true });
        assert!(!of("0::/instances/crab.3\n", "301\t7").holds, "another process of it");
        assert!(!of("0::/instances/crab.3\n", "301").holds, "one without a name space of its own");
        assert!(!of("0::/instances/crabs.3\n", "301\t1").holds, "another instance");
        assert!(!of("0::/services/netd\n", "301\t1").holds);
        assert!(!of("", "").holds);
    }

    #[test]
    fn an_address_of_its_own_is_a_local_host_and_a_neighbours_is_not() {
        let table = "Main:\n  +-- 10.158.0.0/24 2 0 2\n     |-- 10.158.0.0\n        /24 link UNICAST\n     |-- 10.158.0.12\n        /32 host LOCAL\n";
        assert_eq!(own_addresses(table).collect::<Vec<_>>(), ["10.158.0.12"]);
        assert!(has_inside(table, "10.158.0.12/24"));
        assert!(has_inside(table, "10.158.0.12"));
        assert!(!has_inside(table, "10.158.0.1"));
        assert!(!has_inside(table, "10.158.0.0"));
        assert!(!has_inside("", "10.158.0.12"));
    }

    #[test]
    fn each_address_that_is_told_must_be_there() {
        let said = "2: eth0    inet 10.0.2.15/24 brd 10.0.2.255 scope global eth0\\       valid_lft forever\n";
        let holds = |told: Value| addresses(&json!({ "name": "eth0", "addresses": told }), said).holds;
        assert!(holds(json!(["10.0.2.15/24"])));
        assert!(holds(json!(["10.0.2.15", "fe80::1/64"])));
        assert!(!holds(json!(["10.0.2.1/24"])));
        assert!(!holds(json!(["10.0.2.15/24", "10.0.2.16/24"])));
        assert!(!holds(json!([])));
        assert!(!holds(Value::Null));
    }

    #[test]
    fn the_time_since_the_kernel_runs_is_the_first_number() {
        assert_eq!(uptime("350735.47 234388.90\n"), Some(Duration::from_millis(350_735_470)));
        assert_eq!(uptime("\n"), None);
    }
}
