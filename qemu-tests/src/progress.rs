//! One line for each long step. On a terminal it counts the seconds and is overwritten by its result; in a log
//! there is one line at the start and one at the end.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A long step that has begun. Dropped without [`Step::done`], it says that it failed.
#[derive(Debug)]
pub struct Step {
    text: String,
    began: Instant,
    spinner: Option<ProgressBar>,
    is_done: bool,
}

impl Step {
    /// Says that it begins.
    pub fn begin(text: impl Into<String>) -> Step {
        let text = text.into();
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            let spinner = ProgressBar::new_spinner().with_style(style).with_message(text.clone());
            spinner.enable_steady_tick(Duration::from_millis(200));
            spinner
        });
        if spinner.is_none() {
            eprintln!("      … {text}");
        }
        Step { text, began: Instant::now(), spinner, is_done: false }
    }

    /// Says that it has succeeded, and how long it took.
    pub fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        let outcome = if self.is_done { "" } else { ": failed" };
        eprintln!("{:>5.0} s {}{outcome}", self.began.elapsed().as_secs_f64(), self.text);
    }
}
