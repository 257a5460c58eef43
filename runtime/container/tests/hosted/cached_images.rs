//! The mount of an image from one start to the next: used again while the file is what was verified, and only then.

use crate::fixture::{Fixture, verify};
use crate::init_role::{Payload, launch, launch_cached};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use yado_spec::LaunchRequest;
use yado_spec::file_identity::FileIdentity;
use yado_spec::launch_request::Verify;
use yado_sys::children::Ended;
use yado_sys::poll::{Interest, PollSet};
use yado_wire::launch::ImageMount;
use yado_wire::{Failure, Step};

type Case = (&'static str, fn(&Fixture));

pub(crate) const ALL: &[Case] = &[
    ("a_cached_image_is_used_again_and_its_signatures_are_checked_all_the_same", used_again),
    ("an_image_that_was_changed_since_is_verified_again", changed),
    ("an_image_that_somebody_could_be_writing_to_is_not_cached", writer),
    ("who_keeps_an_image_hears_of_its_removal", removed),
];

/// A request for an image of its own, which nobody has touched for a while.
fn request(fixture: &Fixture, name: &str) -> LaunchRequest {
    let path = fixture.path(&format!("image-of-{name}"));
    fs::copy(fixture.path("image"), &path).unwrap();
    settle(&path);
    let mut request = fixture.request(name, &["/bin/true"]);
    request.paths.image = path.to_str().unwrap().to_owned();
    request
}

/// Waits until a change would give the file another time than it has.
fn settle(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    while now() <= fs::metadata(path).unwrap().ctime() + 2 {
        assert!(Instant::now() < deadline, "the clock stands still");
        PollSet::default().wait(Some(Duration::from_millis(50))).unwrap();
    }
}

fn run(started: Result<Payload, Failure>) -> (ImageMount, Vec<OwnedFd>, bool) {
    let mut payload = started.unwrap_or_else(|failure| panic!("{failure}"));
    let was_hashed = payload.steps.iter().any(|step| step.step == Step::Verity);
    let (told, descriptors) = payload.image.take().expect("the image is told of");
    assert_eq!(payload.finish().0, Ended::Code(0));
    (told, descriptors, was_hashed)
}

fn first(request: &LaunchRequest) -> (FileIdentity, OwnedFd, Option<OwnedFd>) {
    let (told, descriptors, was_hashed) = run(launch(request));
    let ImageMount::New(identity) = told else { panic!("{told:?}") };
    assert!(was_hashed, "the first start verifies");
    let mut descriptors = descriptors.into_iter();
    (identity.into(), descriptors.next().unwrap(), descriptors.next())
}

fn used_again(fixture: &Fixture) {
    let request = request(fixture, "cached");
    let (identity, mut mount, _watch) = first(&request);
    for _ in 0..3 {
        let (told, descriptors, was_hashed) = run(launch_cached(&request, identity, &mount));
        assert_eq!((told, was_hashed), (ImageMount::Given, false));
        // Before Linux 6.15.
        mount = descriptors.into_iter().next().unwrap_or(mount);
    }
    let trust = fixture.path("trust-in-others");
    fs::create_dir_all(&trust).unwrap();
    let mut request = request;
    request.paths.trust = trust.to_str().unwrap().to_owned();
    let failure = launch_cached(&request, identity, &mount).err().expect("nobody is trusted");
    assert_eq!(failure.step, Step::ImageSignature, "{failure}");
}

fn changed(fixture: &Fixture) {
    let request = request(fixture, "changed");
    let path = Path::new(&request.paths.image).to_owned();
    let (identity, mount, _watch) = first(&request);
    // Another file of the same bytes.
    let copy = fixture.path("copy");
    fs::copy(&path, &copy).unwrap();
    fs::rename(&copy, &path).unwrap();
    settle(&path);
    let (told, descriptors, was_hashed) = run(launch_cached(&request, identity, &mount));
    let ImageMount::New(identity) = told else { panic!("{told:?}") };
    assert!(was_hashed);
    let mount = descriptors.into_iter().next().unwrap();
    if verify() == Verify::Block {
        return;
    }
    // One byte, with the time of the content put back.
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 9000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 9000).unwrap();
    file.set_modified(before).unwrap();
    drop(file);
    let failure = launch_cached(&request, identity.into(), &mount).err().expect("it was tampered with");
    assert!(matches!(failure.step, Step::ImagePayload | Step::ImageTree), "{failure}");
}

fn writer(fixture: &Fixture) {
    if verify() == Verify::Block {
        return;
    }
    let request = request(fixture, "written");
    let writer = File::options().write(true).open(&request.paths.image).unwrap();
    assert_eq!(run(launch(&request)).0, ImageMount::Nothing);
    drop(writer);
    assert!(matches!(run(launch(&request)).0, ImageMount::New(_)));
    // Now is a time that a later change may have, too.
    File::options().write(true).open(&request.paths.image).unwrap().set_modified(SystemTime::now()).unwrap();
    assert_eq!(run(launch(&request)).0, ImageMount::Nothing);
}

fn removed(fixture: &Fixture) {
    let request = request(fixture, "removed");
    let (identity, mount, watch) = first(&request);
    let watch = watch.expect("the kernel watches it");
    let is_told = |timeout| {
        let mut set = PollSet::default();
        set.add(&watch, Interest::Read);
        set.wait(Some(timeout)).unwrap();
        !set.readiness(0).is_none()
    };
    run(launch_cached(&request, identity, &mount));
    assert!(!is_told(Duration::ZERO), "a start changes nothing");
    fs::remove_file(&request.paths.image).unwrap();
    assert!(is_told(Duration::from_secs(10)));
}
