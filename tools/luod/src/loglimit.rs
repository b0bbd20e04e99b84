// SPDX-License-Identifier: GPL-2.0
//! Lines of the log that users cause: each has so many at once, and then so many a second; the rest
//! is counted.

use std::collections::BTreeMap;

/// Users that are remembered; with more, those that have all of theirs again are forgotten.
const MAX_USERS: usize = 1_000;

/// So many lines at once, and then one every so many milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) burst: u64,
    pub(crate) every_ms: u64,
}

struct Bucket {
    /// Lines it may still cause, in milliseconds of waiting for them.
    left: u64,
    filled: u64,
    dropped: u64,
}

/// Who has caused how much.
pub(crate) struct LogLimit {
    rate: Rate,
    users: BTreeMap<u32, Bucket>,
}

impl LogLimit {
    pub(crate) fn new(rate: Rate) -> Self {
        let users = BTreeMap::new();
        Self { rate, users }
    }

    /// Whether one more line may be written; then also how many were not since the last one.
    pub(crate) fn allow(&mut self, uid: u32, now: u64) -> Option<u64> {
        let Rate { burst, every_ms } = self.rate;
        let most = burst * every_ms;
        if self.users.len() >= MAX_USERS {
            let full = |bucket: &Bucket| bucket.left + now.saturating_sub(bucket.filled) >= most;
            self.users
                .retain(|_, bucket| !full(bucket) || bucket.dropped > 0);
        }
        let bucket = self.users.entry(uid).or_insert(Bucket {
            left: most,
            filled: now,
            dropped: 0,
        });
        let gained = now.saturating_sub(bucket.filled);
        bucket.left = bucket.left.saturating_add(gained).min(most);
        bucket.filled = now;
        match bucket.left.checked_sub(every_ms) {
            Some(left) => {
                bucket.left = left;
                Some(std::mem::take(&mut bucket.dropped))
            }
            None => {
                bucket.dropped += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_fill_a_log_nor_silence_another() {
        let rate = Rate {
            burst: 5,
            every_ms: 100,
        };
        let mut limit = LogLimit::new(rate);
        let said = (0..10_000).filter(|_| limit.allow(7, 0).is_some()).count();
        assert_eq!(said, 5);
        assert_eq!(limit.allow(8, 0), Some(0));
        assert_eq!(limit.allow(7, 99), None);
        assert_eq!(limit.allow(7, 100), Some(9_996));
        assert_eq!(limit.allow(7, 200), Some(0));
        let said = (0..10_000)
            .filter(|_| limit.allow(7, 1 << 40).is_some())
            .count();
        assert_eq!(said, 5);
    }

    #[test]
    fn many_users_take_no_more_room() {
        let rate = Rate {
            burst: 5,
            every_ms: 100,
        };
        let mut limit = LogLimit::new(rate);
        for uid in 0..100_000 {
            limit.allow(uid, u64::from(uid) * 100);
        }
        assert!(limit.users.len() <= MAX_USERS + 1);
    }
}
