//! What files say, and what is said about them.

#![allow(clippy::unwrap_used)]
use super::*;

fn read(author: Author, text: &str) -> (UpdatePolicy, Vec<String>) {
    let mut policy = UpdatePolicy::usual();
    let problems = policy.add(FILE, author, text.as_bytes());
    (policy, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn without_a_file_nothing_is_done_without_being_asked() {
    let policy = UpdatePolicy::usual();
    assert_eq!((policy.check_interval, policy.is_automatic, policy.takes_sticks), (None, false, false));
    assert_eq!((policy.trial_window, policy.trial_deadline), (Duration::from_secs(30), Duration::from_secs(600)));
}

#[test]
fn each_default_is_a_value_of_its_key() {
    for setting in UPDATE.iter().filter(|setting| !setting.default.is_empty()) {
        assert!(setting.parse(setting.name, setting.default).is_ok(), "{}", setting.name);
    }
}

#[test]
fn tables_and_dotted_keys_say_the_same() {
    let (dotted, problems) = read(
        Author::System,
        "compatible = [\"qemu-virt\", \"acme,panel\"]\ncheck.interval = \"6h\"\nsource = \"http://10.0.2.2:8080/x\"",
    );
    assert_eq!(problems, Vec::<String>::new());
    let (table, _) = read(
        Author::System,
        "compatible = \"qemu-virt, acme\"\nsource = \"http://10.0.2.2:8080/x\"\n[check]\ninterval = \"6h\"",
    );
    assert_eq!(dotted.check_interval, Some(Duration::from_secs(6 * 3600)));
    assert_eq!((dotted.check_interval, dotted.source), (table.check_interval, table.source));
    assert_eq!(table.compatible, ["qemu-virt", "acme"]);
}

#[test]
fn of_a_key_that_is_given_twice_the_first_holds_and_the_second_is_told() {
    let (policy, problems) =
        read(Author::System, "trial.window = \"1m\"\n\"trial.window\" = \"2s\"\ntrial.deadline = \"5m\"");
    assert_eq!((policy.trial_window, policy.trial_deadline), (MINUTE, 5 * MINUTE));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with(&format!("{FILE}:2:")) && problems[0].contains("twice"), "{problems:?}");
}

#[test]
fn what_is_wrong_is_told_and_the_rest_holds() {
    let (policy, problems) = read(
        Author::Administrator,
        "compatible = \"other\"\ntrial.windw = 3\nsource = \"ftp://x\"\ntrial.deadline = \"5m\"\nsticks = [1]",
    );
    assert_eq!(policy.trial_deadline, Duration::from_secs(300));
    assert_eq!((policy.compatible.len(), policy.source, policy.takes_sticks), (0, None, false));
    let expected = ["only the signed system", "trial.window", "http://", "single value"];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (line, (problem, part)) in problems.iter().zip(expected).enumerate() {
        let place = format!("{FILE}:{}:", [1, 2, 3, 5][line]);
        assert!(problem.starts_with(&place) && problem.contains(part), "{problem}");
    }
}

#[test]
fn where_the_boot_loader_keeps_its_state_only_the_system_says() {
    let usual = UpdatePolicy::usual();
    let places = BootPlaces {
        environment: "/etc/fw_env.config".into(),
        autoboot: "autoboot".to_owned(),
        options: ["Yadokari A", "Yadokari B"].map(str::to_owned),
        file: None,
    };
    assert_eq!((usual.boot_loader, &usual.boot), (BootLoaderKind::UBootState, &places));
    let text = "[boot]\nloader = \"efi\"\nenvironment = \"/usr/lib/board/env\"\nautoboot = \"config\"\n\
                options = [\"Linux A\", \"Linux B\"]\nfile = \"/data/slots\"\n";
    let (policy, problems) = read(Author::System, text);
    assert_eq!(problems, Vec::<String>::new());
    let places = BootPlaces {
        environment: "/usr/lib/board/env".into(),
        autoboot: "config".to_owned(),
        options: ["Linux A", "Linux B"].map(str::to_owned),
        file: Some("/data/slots".into()),
    };
    assert_eq!((policy.boot_loader, policy.boot), (BootLoaderKind::Efi, places));
    let (policy, problems) = read(Author::Administrator, text);
    assert_eq!((policy.boot_loader, policy.boot), (usual.boot_loader, usual.boot));
    assert!(problems.len() == 5 && problems.iter().all(|problem| problem.contains("only the signed system")));
}

#[test]
fn a_place_that_no_boot_loader_has_is_refused() {
    let long = format!("autoboot = \"{}\"", "x".repeat(37));
    let table = [
        ("environment = \"fw_env.config\"", "boot.environment"),
        ("autoboot = \"\"", "1 to 36"),
        (long.as_str(), "1 to 36"),
        ("autoboot = \"b\\u00f6ot\"", "1 to 36"),
        ("options = \"Yadokari\"", "two different descriptions"),
        ("options = [\"A\", \"A\"]", "two different descriptions"),
        ("options = [\"A\", \"B\", \"C\"]", "two different descriptions"),
        ("options = [\"A\", \"\"]", "two different descriptions"),
    ];
    for (line, expected) in table {
        let (policy, problems) = read(Author::System, &format!("[boot]\n{line}\n"));
        assert_eq!(policy, UpdatePolicy::usual(), "{line}");
        assert!(problems.len() == 1 && problems[0].contains(expected), "{line}: {problems:?}");
    }
}
