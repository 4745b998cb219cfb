//! What was said already of something that lasts: it is said when it begins, not each time that somebody looks.
//!
//! Two things that are wrong at the same time are each said once. What was not true for a while and is again is said again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// More sentences than a network has troubles, each of some hundred bytes. Whoever makes us say other ones all the time makes us
/// repeat ourselves, and not remember them.
const MOST: usize = 1_024;

/// Sentences, and when each was true last.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<String, Instant>);

impl Told {
    /// Whether `sentence`, which is true now, is to be said: it was not within `patience`, in which what lasts is seen again.
    pub(super) fn is_news(&mut self, sentence: &str, now: Instant, patience: Duration) -> bool {
        self.0.retain(|_, seen| now.saturating_duration_since(*seen) <= patience);
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(sentence.to_owned(), now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn two_that_last_are_each_said_once_and_again_when_they_come_back() {
        let (mut told, began) = (Told::default(), Instant::now());
        let mut said = |sentence: &str, hour: u32| told.is_news(sentence, began + HOUR * hour, HOUR * 2);
        assert!(said("the disk is full", 0) && said("the certificate ends", 0));
        for hour in 1..100 {
            assert!(!said("the disk is full", hour) && !said("the certificate ends", hour), "{hour}");
        }
        assert!(!said("the disk is full", 101));
        assert!(said("the certificate ends", 102), "it was good meanwhile");
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let (mut told, now) = (Told::default(), Instant::now());
        for n in 0..3 * MOST {
            assert!(told.is_news(&n.to_string(), now, HOUR));
            assert!(told.0.len() <= MOST);
        }
    }
}
