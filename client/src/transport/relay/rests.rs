//! The addresses of a relay that are left out of tries for a while, because of what answered there.
//!
//! A relay that refuses is left alone altogether. But a proxy that does not let this node out, or what speaks no TLS where that is expected, says nothing of the other
//! addresses: these are tried as ever, and what answered so is not asked again in step with them. With a wrong password it matters most: proxies count how often they hear one, and lock
//! the account.

use std::time::Duration;
use tokio::time::Instant;

/// How long, and what is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) wait: Duration,
    /// The proxy says it whatever it is asked for: every address behind it.
    pub(super) is_of_proxy: bool,
}

impl Rest {
    /// Of the one address.
    pub(super) const fn of_address(wait: Duration) -> Self {
        Self { wait, is_of_proxy: false }
    }

    /// Of every address behind the proxy.
    pub(super) const fn of_proxy(wait: Duration) -> Self {
        Self { wait, is_of_proxy: true }
    }
}

/// Until when each address rests, by its place among the relay's.
#[derive(Debug, Default)]
pub(super) struct Rests(Vec<Option<Instant>>);

impl Rests {
    /// The address at that place is not to be tried until then.
    pub(super) fn begin(&mut self, at: usize, until: Instant) {
        if self.0.len() <= at {
            self.0.resize(at + 1, None);
        }
        if let Some(rest) = self.0.get_mut(at) {
            *rest = Some(until);
        }
    }

    pub(super) fn has(&self, at: usize) -> bool {
        self.until(at).is_some()
    }

    /// When the first of `count` addresses may be tried, where all of them rest.
    pub(super) fn all_until(&self, count: usize) -> Option<Instant> {
        let all: Option<Vec<Instant>> = (0..count).map(|at| self.until(at)).collect();
        all?.into_iter().min()
    }

    /// The network is another one: so may be what answers.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn until(&self, at: usize) -> Option<Instant> {
        let until = self.0.get(at).copied().flatten()?;
        (until > Instant::now()).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_rest_until_the_first_is_over() {
        let mut rests = Rests::default();
        let now = Instant::now();
        let (soon, late) = (now + Duration::from_secs(10), now + Duration::from_secs(60));
        assert_eq!(rests.all_until(1), None);
        rests.begin(1, soon);
        assert_eq!((rests.has(0), rests.has(1), rests.has(2)), (false, true, false));
        assert_eq!(rests.all_until(2), None, "one may be tried");
        rests.begin(0, late);
        assert_eq!((rests.all_until(2), rests.all_until(3)), (Some(soon), None));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!((rests.has(0), rests.has(1), rests.all_until(2)), (true, false, None));
        rests.clear();
        assert!(!rests.has(0));
        assert_eq!(rests.all_until(0), None, "there is none");
    }
}
