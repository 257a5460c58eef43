//! An instance from a request, as the API gets one: the same compiler, the same spec as from a file, and problems that name
//! the request.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use world::{BUSYBOX, FULL, facts, problems};
use yado_spec::InstanceSpec;
use yado_spec::changes::changes;
use yado_spec::compile::{Heading, World, compile_one};
use yado_spec::layer::{Layer, Located};
use yado_spec::network::NetworksSpec;
use yado_spec::parsed_layer::{ParsedLayer, parse_layer};
use yado_spec::problem::{Location, Problem};
use yado_wire::InstanceName;

type Texts = BTreeMap<String, String>;

fn texts(pairs: &[(&str, &str)]) -> Texts {
    pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
}

fn request(config: &[(&str, &str)], devices: &[(&str, &[(&str, &str)])]) -> ParsedLayer {
    let devices = devices.iter().map(|(name, options)| ((*name).to_owned(), texts(options))).collect();
    parse_layer(Layer::of_request(texts(config), devices))
}

fn compile(image: Option<&str>, layers: &[&ParsedLayer]) -> Result<InstanceSpec, Vec<Problem>> {
    let (aliases, images) = ([("busybox".to_owned(), BUSYBOX)].into(), [(BUSYBOX, PathBuf::from("image"))].into());
    let networks = NetworksSpec::default_networks();
    let pins = BTreeMap::new();
    let world = World { aliases: &aliases, images: &images, pins: &pins, networks: &networks, facts: &facts };
    let name = InstanceName::parse("it").unwrap();
    let image = image.map(|text| Located { location: Location::Request, text: text.to_owned() });
    compile_one(Heading { name: &name, location: &Location::Request, image: image.as_ref() }, layers, &world)
}

/// All keys and devices of the full file, as LXD's `config` and `devices` have them.
#[test]
fn a_request_and_a_file_that_say_the_same_are_the_same_spec() {
    let of_file = world::compile_one(FULL).unwrap();
    let bare = compile(Some("busybox"), &[]).unwrap();
    let (mut config, mut devices) = (Texts::new(), BTreeMap::<String, Texts>::new());
    for change in changes(&bare, &of_file) {
        let Some(text) = change.new else { continue };
        match change.key.strip_prefix("devices.").and_then(|rest| rest.split_once('.')) {
            Some((device, option)) => {
                devices.entry(device.to_owned()).or_default().insert(option.to_owned(), text);
            }
            None => {
                config.insert(change.key, text);
            }
        }
    }
    // Of the root only what was said is shown: it is there anyway.
    devices.entry("root".to_owned()).or_default().extend(texts(&[("type", "disk"), ("path", "/")]));
    assert!(20 < config.len() && 5 < devices.len(), "{config:?} {devices:?}");
    let layer = parse_layer(Layer::of_request(config, devices));
    assert_eq!(compile(Some("busybox"), &[&layer]), Ok(of_file));
}

#[test]
fn a_parsed_layer_serves_any_number_of_instances_and_the_last_layer_wins() {
    let profile = request(
        &[("limits.memory", "64MiB"), ("limits.kernel.nofile", "1024"), ("environment.A", "1")],
        &[("eth0", &[("type", "nic"), ("network", "yado0"), ("mtu", "1400")]), ("leds", &[("type", "none")])],
    );
    let own = request(&[("limits.memory", "25%")], &[("eth0", &[("type", "gpio"), ("chip", "leds")])]);
    let small = compile(Some("busybox"), &[&profile]).unwrap();
    let other = compile(Some("busybox"), &[&profile, &own]).unwrap();
    assert_eq!(compile(Some("busybox"), &[&profile]), Ok(small.clone()));
    let differences: Vec<String> = changes(&small, &other)
        .into_iter()
        .map(|change| format!("{}: {:?} {:?}", change.key, change.old, change.new))
        .collect();
    let expected = [
        "limits.memory: Some(\"64MiB\") Some(\"25%\")",
        "devices.eth0.chip: None Some(\"leds\")",
        "devices.eth0.mtu: Some(\"1400\") None",
        "devices.eth0.network: Some(\"yado0\") None",
        "devices.eth0.type: Some(\"nic\") Some(\"gpio\")",
    ];
    assert_eq!(differences, expected);
    assert_eq!((other.limits.kernel.len(), other.environment.len()), (1, 1));
}

#[test]
fn what_is_wrong_with_a_request_is_told_as_with_a_file() {
    let layer = request(
        &[("limits.memry", "1MiB"), ("limits.cpu.priority", "11")],
        &[("bad/name", &[("type", "none")]), ("x", &[("type", "gpio"), ("chp", "a")]), ("y", &[])],
    );
    let layer_problems = [
        "request: limits.cpu.priority = \"11\": must be a whole number from 0 to 10",
        "request: limits.memry = \"1MiB\": no such key; did you mean limits.memory?",
        "request: devices.bad/name: must be a name of 1 to 64 letters, digits, dashes and dots",
        "request: devices.x.chp = \"a\": no such option; did you mean chip?",
        "request: devices.y.type: missing: type = \"disk\"",
    ];
    assert_eq!(layer.problems().iter().map(Problem::to_string).collect::<Vec<_>>(), layer_problems);
    let all = problems(compile(Some("busibox"), &[&layer]));
    assert_eq!(all[..5], layer_problems);
    assert_eq!(all[5..], ["request: image = \"busibox\": no such image; did you mean busybox?"]);
    let without = problems(compile(None, &[]));
    assert_eq!(without, ["request: image: missing: image = \"ALIAS\" or a fingerprint"]);
}

/// Whoever sends a million wrong keys is told of some.
#[test]
fn problems_of_a_request_are_bounded() {
    let config: Texts = (0..10_000).map(|number| (format!("k{number}"), String::new())).collect();
    let layer = parse_layer(Layer::of_request(config, BTreeMap::new()));
    assert_eq!(layer.problems().len(), 50);
}
