// SPDX-License-Identifier: GPL-2.0
//! What the service manager is told: that luod lives, and what it is doing. Without one, nobody is
//! told anything.

use luo_client::Phase;
use sd_notify::{notify, NotifyState};
use std::time::{Duration, Instant};

/// Who started luod.
pub(crate) struct Manager {
    /// How often it wants to hear that luod lives, and when it will next.
    watchdog: Option<(Duration, Instant)>,
    told: Option<Phase>,
}

impl Manager {
    pub(crate) fn new(now: Instant) -> Self {
        // Twice as often as it has to be.
        let every = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Self {
            watchdog: every.map(|every| (every, now)),
            told: None,
        }
    }

    /// When it has to hear of luod again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.watchdog.map(|(_, at)| at)
    }

    /// The event loop has gone round once more.
    pub(crate) fn turn(&mut self, now: Instant, phase: Phase) {
        if let Some((every, at)) = &mut self.watchdog {
            if *at <= now {
                *at = now + *every;
                let _ = notify(&[NotifyState::Watchdog]);
            }
        }
        if self.told != Some(phase) {
            self.told = Some(phase);
            let _ = notify(&[NotifyState::Status(&phase.to_string())]);
        }
    }

    pub(crate) fn reloading(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            let _ = notify(&[NotifyState::Reloading, now]);
        }
    }

    pub(crate) fn ready(&self) {
        let _ = notify(&[NotifyState::Ready]);
    }

    pub(crate) fn stopping(&self) {
        let _ = notify(&[NotifyState::Stopping]);
    }
}
