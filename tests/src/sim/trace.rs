//! What the program under test says: an ERROR fails the case, the rest is kept for whoever asks.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

thread_local! {
    static TIME: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
    static LINES: RefCell<Vec<String>> = const { RefCell::new(vec![]) };
    static ERRORS: RefCell<Vec<String>> = const { RefCell::new(vec![]) };
}

/// Sets the virtual time that lines begin with.
pub(super) fn set_time(now: Duration) {
    TIME.set(now);
}

/// Sets the node whose doings follow; `None` for the world's own.
pub(super) fn set_place(node: Option<usize>) {
    PLACE.set(node);
}

/// Runs `f` with this thread's events recorded; gives what it returned, the ERRORs, and every line if `all`.
pub(super) fn record<T>(all: bool, f: impl FnOnce() -> T) -> (T, Vec<String>, Vec<String>) {
    let dispatch = tracing::Dispatch::new(Recorder { all });
    let value = tracing::dispatcher::with_default(&dispatch, f);
    (value, ERRORS.take(), LINES.take())
}

/// Records events of the thread it is the default of.
struct Recorder {
    all: bool,
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && (*metadata.level() == Level::ERROR || self.all)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        let level = if self.all { Level::TRACE } else { Level::ERROR };
        Some(tracing::level_filters::LevelFilter::from_level(level))
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let place = PLACE.get().map_or_else(|| "     ".to_owned(), |node| format!("node{node}"));
        let mut line = format!("{:9.3} {place} {:5} ", TIME.get().as_secs_f64(), event.metadata().level());
        event.record(&mut Fields(&mut line));
        if *event.metadata().level() == Level::ERROR {
            ERRORS.with_borrow_mut(|errors| errors.push(line.clone()));
        }
        if self.all {
            LINES.with_borrow_mut(|lines| lines.push(line));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String does not fail.
        let _written = if field.name() == "message" {
            write!(self.0, "{value:?} ")
        } else {
            write!(self.0, "{}={value:?} ", field.name())
        };
    }
}
