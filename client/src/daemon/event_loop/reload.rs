//! Settings that are read again while the daemon runs: by `reload` over the control socket, or SIGHUP.
//!
//! In order: read what `up` remembered, the file of people that wins over it, and the access rules; then, if all of that is good, apply each key
//! that is other than what the daemon runs with, where that is possible, and say of the others that they count from the next start on.
//!
//! # Invariants
//!
//! - A fault in any of the files changes nothing at all: what was in force stays in force.
//! - [`EventLoop::settings`](super::EventLoop) is what the daemon runs with, key by key; so what waits is said again by each reload until the next start.
//! - What a key does while the daemon runs is a `match` without a rest: a new key is decided on here, or does not compile.

use super::rules::{enforce, say};
use super::{EventLoop, ciphers};
use crate::config::keys::Counts;
use crate::config::{Key, Settings, relays_in_use};
use crate::control::message::{ErrorCode, Response, Setting};
use crate::daemon::config_file::ConfigFile;
use crate::daemon::progress::Progress;
use crate::daemon::rules_file::RulesFile;
use crate::net::port_mapping::PortMapper;
use shadowmesh_proto::rules::Rules;
use std::sync::Arc;
use std::time::Instant;

impl EventLoop {
    /// Reads everything again and applies what can be; what the log says is the answer as well.
    pub(super) fn reload(&mut self) -> Response {
        self.manager.reloading();
        let response = match self.read_again() {
            Ok((wanted, rules)) => self.take(&wanted, rules),
            Err(why) => self.refuse(why),
        };
        self.manager.reloaded();
        response
    }

    /// What the files say now.
    fn read_again(&self) -> Result<(Settings, Option<RulesFile>), String> {
        let config = self.state.load_config().map_err(|error| error.to_string())?;
        let file = self.config_file.as_ref().map(ConfigFile::read).transpose();
        let file = file.map_err(|error| error.to_string())?.unwrap_or_default();
        let wanted = Settings::new(&config.overlaid_with(file), &self.hostname);
        let rules =
            wanted.rules.as_ref().map(RulesFile::read).transpose().map_err(|error| error.to_string())?;
        Ok((wanted, rules))
    }

    fn take(&mut self, wanted: &Settings, rules: Option<RulesFile>) -> Response {
        let (mut applied, mut waits) = (Vec::new(), Vec::new());
        let changed = Key::ALL.iter().copied().filter(|key| wanted.differs(&self.settings, *key));
        for key in changed.collect::<Vec<_>>() {
            let about = key.about();
            let setting = |note: Option<&str>| Setting {
                key: about.name.to_owned(),
                value: wanted.shown(key),
                note: note.map(ToOwned::to_owned),
            };
            match about.counts {
                Counts::AtOnce => applied.push(setting(None)),
                Counts::From(what) => applied.push(setting(Some(what))),
                Counts::NextStart(why) => waits.push(setting(Some(why))),
            }
            self.apply_key(key, wanted);
        }
        self.read_rules(rules);
        // Somebody may have taken away what they were served by, without another word in the file.
        self.names.choose(self.settings.names);
        self.tell_names();
        // In force before anybody hears so.
        if let Some(plane) = &self.plane
            && self.routes.publish(plane)
        {
            self.on_names_changed();
        }
        say(&self.progress, self.rules.as_ref());
        let restart = (!waits.is_empty()).then(|| self.restart.clone());
        for setting in &applied {
            self.mention(setting.applied());
        }
        for setting in &waits {
            self.mention(setting.waits());
        }
        if applied.is_empty() && waits.is_empty() {
            self.mention("the settings were read again: none is other than before".to_owned());
        }
        if let Some(restart) = &restart {
            self.mention(format!("to start it anew: {restart}"));
        }
        let Settings { names, sessions, idle_after, .. } = &self.settings;
        Response::Reloaded {
            rules: self.rules.clone(),
            names: Some(*names),
            sessions: Some(*sessions),
            idle_after: Some(idle_after.to_string()),
            applied,
            waits,
            restart,
        }
    }

    /// Has a key that differs count, if it can while the daemon runs.
    fn apply_key(&mut self, key: Key, wanted: &Settings) {
        let now = Instant::now();
        match key {
            Key::Relays => {
                self.settings.relays.clone_from(&wanted.relays);
                let (relays, left_out) = relays_in_use(&self.network.relays, &self.settings.relays);
                if left_out > 0 {
                    self.notice(format!("there are more relays than can be used: {left_out} are left out"));
                }
                self.use_relays(relays);
            }
            Key::Name => {
                self.settings.name.clone_from(&wanted.name);
                self.endpoint.set_name(now, wanted.name.to_string());
                self.on_names_changed();
                self.do_my_part();
            }
            Key::Cipher => {
                self.settings.cipher = wanted.cipher;
                self.endpoint.set_ciphers(ciphers(wanted.cipher));
            }
            Key::PortMapping => {
                self.settings.port_mapping = wanted.port_mapping;
                self.map_port(now);
            }
            Key::Filter => {
                self.settings.filter = wanted.filter;
                self.routes.set_switch(self.settings.switch());
            }
            Key::AllowDhcp => {
                self.settings.allow_dhcp.clone_from(&wanted.allow_dhcp);
                self.routes.set_switch(self.settings.switch());
            }
            Key::FloodBudget => {
                self.settings.flood_budget = wanted.flood_budget;
                self.routes.set_switch(self.settings.switch());
            }
            // What is in the file is read whether another is named or not.
            Key::Rules => self.settings.rules.clone_from(&wanted.rules),
            Key::Names => self.settings.names = wanted.names,
            Key::Sessions => {
                self.settings.sessions = wanted.sessions;
                self.follow_sessions();
            }
            Key::IdleAfter => {
                self.settings.idle_after = wanted.idle_after;
                self.follow_sessions();
            }
            Key::RekeyInterval => {
                self.settings.rekey_interval = wanted.rekey_interval;
                self.endpoint.set_rekey_interval(wanted.rekey_interval.duration());
            }
            Key::Proxy | Key::Device | Key::Mtu | Key::Queues | Key::Bridge | Key::Address => {}
        }
    }

    fn read_rules(&mut self, rules: Option<RulesFile>) {
        let here = self.endpoint.id();
        self.rules = match rules {
            Some(file) => Some(enforce(&mut self.routes, here, file)),
            None => {
                // Where there never were any, nobody is restricted before or after.
                self.routes.set_rules(Instant::now(), here, Rules::default());
                None
            }
        };
        self.fall_back_to_record();
    }

    /// Asks the router for a port, or gives it back, as the settings say.
    fn map_port(&mut self, now: Instant) {
        match (self.settings.port_mapping, self.mapper.take()) {
            (true, None) => {
                let (netlink, before) = (Arc::clone(&self.netlink), self.gives_back.take());
                let (device, port) = (self.interface.index, self.socket.port());
                self.mapper = Some(PortMapper::spawn(netlink, device, port, before));
            }
            (false, Some(mapper)) => {
                self.gives_back = Some(tokio::spawn(mapper.end()));
                self.endpoint.handle_mapped_port(now, None);
            }
            (_, mapper) => self.mapper = mapper,
        }
    }

    fn refuse(&mut self, why: String) -> Response {
        if let Some(rules) = &mut self.rules {
            rules.error = Some(why.clone());
        }
        let rules = match &self.rules {
            Some(_) => "the rules from before stay in force",
            None => "there are no rules, as before, and everything is let in",
        };
        let sentence = format!("{why}; nothing is changed, and {rules}");
        self.notice(format!("not reloaded: {sentence}"));
        Response::error(ErrorCode::Failed, sentence)
    }

    /// Says what a reload did, in the log of a daemon.
    fn mention(&self, line: String) {
        self.progress.send(Progress::Notice(line));
    }
}
