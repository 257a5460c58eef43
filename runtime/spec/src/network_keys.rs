//! The one table of the keys of networks: `networks/NAME.toml` with `type = "bridge"` (the default) or `"physical"`.

mod bridge;
mod physical;

pub use bridge::BRIDGE;
pub use physical::PHYSICAL;

use crate::network::Ipv4Prefix;
use crate::values::Expected;

fn prefix(text: &str) -> Result<Ipv4Prefix, Expected> {
    Ipv4Prefix::parse(text).map_err(|error| Expected(format!("an address such as 10.158.0.1/24 ({error})")))
}

/// Comma separated, blanks around each ignored.
fn list<T>(text: &str, max: usize, one: fn(&str) -> Result<T, Expected>) -> Result<Vec<T>, Expected> {
    let all: Vec<T> = text.split(',').map(|part| one(part.trim())).collect::<Result<_, _>>()?;
    if max < all.len() { Err(Expected(format!("at most {max}"))) } else { Ok(all) }
}

/// As `list` reads it; an empty list is not said.
fn show_list<T>(all: &[T], one: impl Fn(&T) -> String) -> Option<String> {
    (!all.is_empty()).then(|| all.iter().map(one).collect::<Vec<_>>().join(", "))
}
