//! In which order the loop takes what waits for it.
//!
//! What is rare and wanted now comes first, and what comes second may depend on what came first. But whoever can make something of a
//! class come without end, a relay that talks, a peer whose packets ask for an acknowledgement each, a deadline that is always over, must
//! not keep the others out: a class that was passed over [`PASSED_OVER`] times has the first word once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Inputs of other classes that are taken before one that waits: a few milliseconds' work, and as many as a relay's queue holds.
pub(super) const PASSED_OVER: usize = 64;
/// Classes of inputs.
pub(super) const CLASSES: usize = 5;

/// How long each class waits.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Inputs of others that were taken since it was taken last, or had nothing.
    passed_over: [usize; CLASSES],
}

impl Turns {
    /// The next input of `sources`, one for each class, the most wanted first. Cancel-safe where they are.
    pub(super) async fn next<T>(&mut self, mut sources: [Pin<&mut dyn Future<Output = T>>; CLASSES]) -> T {
        poll_fn(|cx| {
            for class in self.order() {
                let (Some(source), Some(passed_over)) =
                    (sources.get_mut(class), self.passed_over.get_mut(class))
                else {
                    continue;
                };
                *passed_over = 0;
                if let Poll::Ready(input) = source.as_mut().poll(cx) {
                    self.passed_over
                        .iter_mut()
                        .enumerate()
                        .filter(|(other, _)| *other != class)
                        .for_each(|(_, passed_over)| *passed_over += 1);
                    return Poll::Ready(input);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Classes in the order in which they are asked.
    fn order(&self) -> [usize; CLASSES] {
        let mut order = std::array::from_fn(|class| class);
        // Stable: of those that waited for long the most wanted first, and of the others.
        order.sort_by_key(|class: &usize| {
            self.passed_over.get(*class).is_none_or(|times| *times < PASSED_OVER)
        });
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::pin::pin;

    /// What is taken of the classes that always have something.
    async fn taken(turns: &mut Turns, there: [bool; CLASSES]) -> usize {
        let source =
            |class: usize| async move { if there[class] { ready(class).await } else { pending().await } };
        let (mut a, mut b, mut c) = (pin!(source(0)), pin!(source(1)), pin!(source(2)));
        let (mut d, mut e) = (pin!(source(3)), pin!(source(4)));
        turns.next([a.as_mut(), b.as_mut(), c.as_mut(), d.as_mut(), e.as_mut()]).await
    }

    #[tokio::test]
    async fn the_most_wanted_comes_first_and_nobody_waits_for_ever() {
        let mut turns = Turns::default();
        let mut last = [0; CLASSES];
        for n in 0..100 * PASSED_OVER {
            last[taken(&mut turns, [true; CLASSES]).await] = n;
            let longest = last.map(|last| n - last).into_iter().max().unwrap();
            assert!(longest < PASSED_OVER + CLASSES, "one waited for {longest} others");
        }
        let (mut of_each, turns) = ([0; CLASSES], &mut Turns::default());
        for _ in 0..10 * PASSED_OVER {
            of_each[taken(turns, [true; CLASSES]).await] += 1;
        }
        assert!(of_each[0] > 9 * PASSED_OVER, "{of_each:?}");
    }

    #[tokio::test]
    async fn who_comes_late_waits_for_nobody_less_wanted() {
        let mut turns = Turns::default();
        for _ in 0..10 * PASSED_OVER {
            assert_eq!(taken(&mut turns, [false, false, true, false, false]).await, 2);
        }
        assert_eq!(taken(&mut turns, [true, false, true, false, false]).await, 0);
    }
}
