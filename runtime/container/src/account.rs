//! The user as whom a command inside runs. A user's name is looked up in the instance's `/etc/passwd` and `/etc/group`
//! (passwd(5), group(5)). Anybody inside may have written these files, so they are read as the instance's root, confined like
//! the command, and up to a limit: they lead no further than the command itself could go.

use crate::become_untraceable;
use crate::report::at;
use rustix::io::Errno;
use std::io::Read;
use std::path::Path;
use yado_spec::launch_request::CommandUser;
use yado_sys::{identity, regular_file};
use yado_wire::{Failure, Step};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The most bytes that are read of one of these files: some ten thousand users.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The shell of a user without one: passwd(5). Also the shell if there is no `/etc/passwd`.
const DEFAULT_SHELL: &str = "/bin/sh";

/// A user of the instance, as the command's process takes it on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// `None`: only the number of the user is known.
    pub(crate) login: Option<Login>,
}

/// What login(1) puts into the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) home: String,
    pub(crate) shell: String,
}

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    uid: u32,
    gid: u32,
    login: Login,
}

impl Account {
    /// Looks the user up where that is needed: for a name, or for a shell (`wants_shell`). From then on this process is the
    /// instance's root.
    pub(crate) fn of(user: &CommandUser, wants_shell: bool) -> Result<Account, Failure> {
        match user {
            CommandUser::Ids { uid, gid } => {
                let root =
                    || Login { name: "root".to_owned(), home: "/root".to_owned(), shell: DEFAULT_SHELL.to_owned() };
                // A number needs no entry in `/etc/passwd`.
                let entry = if wants_shell { of_id(*uid)? } else { None };
                let login = entry.map(|entry| entry.login).or_else(|| (*uid == 0).then(root));
                Ok(Account { uid: *uid, gid: *gid, groups: Vec::new(), login })
            }
            CommandUser::Name { name, gid } => {
                become_user(0, 0, &[])?;
                // The kernel's answer here is none to the question whether the command is there.
                let passwd = read(PASSWD).map_err(|failure| Failure { errno: 0, ..failure })?;
                let found = find(&passwd, |entry| entry.login.name == *name);
                let Entry { uid, gid: own, login } = found.ok_or_else(|| {
                    Failure::refused(Step::Exec, name, "no such user in the instance's /etc/passwd")
                })?;
                let gid = gid.unwrap_or(own);
                let mut groups = match read(GROUP) {
                    Ok(text) => groups_of(name, &text),
                    Err(failure) if failure.errno == Errno::NOENT.raw_os_error() => Vec::new(),
                    Err(failure) => return Err(failure),
                };
                // As initgroups(3) does it.
                groups.insert(0, gid);
                Ok(Account { uid, gid, groups, login: Some(login) })
            }
        }
    }

    /// Makes this process that user.
    pub(crate) fn become_it(&self) -> Result<(), Failure> {
        become_user(self.uid, self.gid, &self.groups)
    }

    pub(crate) fn shell(&self) -> &str {
        self.login.as_ref().map_or(DEFAULT_SHELL, |login| &login.shell)
    }
}

/// Makes this process a user of the instance. It stays untraceable for everybody inside.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Failure> {
    // The largest id stands for "no change" in these calls.
    if uid == u32::MAX || gid == u32::MAX || groups.contains(&u32::MAX) {
        return Err(Failure::refused(Step::Exec, "uid and gid", "no such id"));
    }
    identity::become_user(uid, gid, groups).map_err(at(Step::Exec, "uid and gid"))?;
    // After a change of ids the kernel sets dumpable to fs.suid_dumpable. With 1, "for debugging only", that means traceable.
    become_untraceable()
}

/// The user with this id. `None` also if the file is missing or unreadable: a shell must work when something is broken.
fn of_id(uid: u32) -> Result<Option<Entry>, Failure> {
    become_user(0, 0, &[])?;
    Ok(read(PASSWD).ok().and_then(|text| find(&text, |entry| entry.uid == uid)))
}

/// Reads a file of the instance. It may block; the launcher has a time limit for that.
fn read(path: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let file = regular_file::open_linked(Path::new(path)).map_err(at(Step::Exec, path))?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(at(Step::Exec, path))?;
    if MAX_FILE_BYTES < bytes.len() as u64 {
        let reason = format!("longer than {MAX_FILE_BYTES} bytes: give the user's number");
        return Err(Failure::refused(Step::Exec, path, &reason));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The first valid line that `is_wanted` accepts, as getpwnam(3) does it.
fn find(passwd: &str, is_wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
    passwd.lines().filter_map(entry).find(is_wanted)
}

/// `name:password:uid:gid:comment:home:shell`.
fn entry(line: &str) -> Option<Entry> {
    let fields: Vec<&str> = line.splitn(8, ':').collect();
    let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let login = Login { name: (*name).to_owned(), home: or(home, "/"), shell: or(shell, DEFAULT_SHELL) };
    Some(Entry { uid: uid.parse().ok()?, gid: gid.parse().ok()?, login })
}

/// The groups of `name:password:gid:member,member` that name the user.
fn groups_of(user: &str, group: &str) -> Vec<u32> {
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.splitn(5, ':').collect();
        let [_, _, gid, members] = fields.as_slice() else { return None };
        members.split(',').any(|member| member == user).then(|| gid.parse().ok())?
    };
    group.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_user_or_nothing() {
        let login = |name: &str, home: &str, shell: &str| Login {
            name: name.to_owned(),
            home: home.to_owned(),
            shell: shell.to_owned(),
        };
        let rows: [(&str, Option<Entry>); 6] = [
            (
                "www:x:33:34:Web:/var/www:/bin/bash",
                Some(Entry { uid: 33, gid: 34, login: login("www", "/var/www", "/bin/bash") }),
            ),
            ("a:x:1:2:::", Some(Entry { uid: 1, gid: 2, login: login("a", "/", "/bin/sh") })),
            ("a:x:-1:2:::", None),
            ("a:x:1:2::", None),
            ("+::::::", None),
            ("", None),
        ];
        for (line, wanted) in rows {
            assert_eq!(entry(line), wanted, "{line}");
        }
    }

    #[test]
    fn the_first_of_a_name_counts_and_bad_lines_do_not() {
        let passwd = "# comment\nbad:x:1\nweb:x:5:6::/a:/s\nweb:x:7:8::/b:/t\n";
        let found = find(passwd, |entry| entry.login.name == "web");
        assert_eq!(found.map(|entry| (entry.uid, entry.gid)), Some((5, 6)));
        assert_eq!(find(passwd, |entry| entry.login.name == "bad"), None);
    }

    #[test]
    fn the_groups_are_those_that_name_the_user() {
        let group = "audio:x:29:alice,web\nvideo:x:44:webmaster\ngpio:*:997:web\nbad:x:no:web\nshort:x:1\n";
        assert_eq!(groups_of("web", group), [29, 997]);
        assert_eq!(groups_of("nobody", "empty:x:1:\n"), [0; 0]);
    }
}
