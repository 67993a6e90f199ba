//! A gateway whose next hop does not listen, at first.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::{Command, Output};

use serde_json::Value;
use testbed::destination::Rules;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::{Configuration, Destination, Dialog, Gateway};

pub(crate) const FROM: &str = "terri@proseware.example";
pub(crate) const TO: &str = "bob@adatum.example";
pub(crate) const OTHER: &str = "ann@far.example";
pub(crate) const CONTENT: &[u8] = b"Subject: hello\r\n\r\nthe words of terri\r\n";

/// Everything that it has accepted waits: its next hop does not listen, at first.
pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
}

impl Stage {
    pub(crate) fn start(change: impl FnOnce(&mut Configuration)) -> Self {
        let mut configuration = Configuration::relay(free_address());
        // Far enough apart that nothing is tried again in the time of a test, unless a test asks for it.
        configuration.node_extra =
            "[retry]\nfirst = \"10m\"\nlongest = \"1h\"\n\n[admin]\nsocket = \"admin.sock\"\n".into();
        change(&mut configuration);
        Self { gateway: Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration) }
    }

    /// Accepts a message and says what its id is.
    pub(crate) fn send(&self, from: &str, to: &str) -> String {
        self.send_content(from, to, CONTENT)
    }

    pub(crate) fn send_content(&self, from: &str, to: &str, content: &[u8]) -> String {
        let before: HashSet<_> = self.ids(&["list"]).into_iter().collect();
        Dialog::hello(self.gateway.smtp()).deliver(from, &[to], content);
        let new = self.ids(&["list"]).into_iter().find(|id| !before.contains(id));
        new.expect("the message is queued")
    }

    pub(crate) fn destination(&self) -> Destination {
        let rules = Rules { keep_content: true, ..Rules::default() };
        Destination::at(self.gateway.configuration().next_hop, rules)
    }

    pub(crate) fn spool(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gatepost"))
            .arg("spool")
            .args(words)
            .arg("--config")
            .arg(self.gateway.config_path())
            .output()
            .expect("the program is there")
    }

    pub(crate) fn text(&self, words: &[&str]) -> String {
        String::from_utf8(self.spool(words).stdout).expect("what is printed is text")
    }

    /// What `gatepost status` prints.
    pub(crate) fn status(&self, words: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_gatepost"))
            .arg("status")
            .args(words)
            .env_remove("COLUMNS")
            .arg("--config")
            .arg(self.gateway.config_path())
            .output();
        String::from_utf8(output.expect("the program is there").stdout).expect("what is printed is text")
    }

    pub(crate) fn objects(&self, words: &[&str]) -> Vec<Value> {
        let text = self.text(&[words, &["--json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
    }

    pub(crate) fn object(&self, words: &[&str]) -> Value {
        self.objects(words).pop().expect("an object")
    }

    pub(crate) fn ids(&self, words: &[&str]) -> Vec<String> {
        let objects = self.objects(words);
        // What is said of a name that nothing has is no message.
        let ids = objects.iter().filter(|one| one["error"].is_null());
        ids.map(|one| one["id"].as_str().expect("it has an id").to_owned()).collect()
    }

    /// The records of `event` in the log, once there are `count`.
    pub(crate) fn logged(&self, event: &str, count: usize) -> Vec<Value> {
        let mut records: Vec<Value> = Vec::new();
        let is_there = eventually(PATIENCE, || {
            let output = self.gateway.output();
            let lines = output.lines().filter_map(|line| serde_json::from_str(line).ok());
            records = lines.filter(|record: &Value| record["event"] == event).collect();
            records.len() >= count
        });
        assert!(is_there, "{event} is not logged {count} times:\n{}", self.gateway.output());
        records
    }

    /// Turns a byte of the only place where `needle` stands in the spool's segments.
    pub(crate) fn damage(&self, needle: &[u8]) {
        let shard = self.gateway.directory().join("spool/shard-000");
        let mut places = 0;
        for entry in std::fs::read_dir(shard).expect("there is a shard").flatten() {
            if !entry.file_name().to_string_lossy().starts_with("segment-") {
                continue;
            }
            let bytes = std::fs::read(entry.path()).expect("a segment can be read");
            let found: Vec<_> = (0..bytes.len() - needle.len())
                .filter(|&at| bytes[at] == needle[0] && bytes[at..].starts_with(needle))
                .collect();
            for at in found {
                let file =
                    OpenOptions::new().write(true).open(entry.path()).expect("a segment can be opened");
                file.write_at(&[needle[0] ^ 0x20], at as u64).expect("a segment can be written");
                file.sync_all().expect("a segment can be synced");
                places += 1;
            }
        }
        assert_eq!(places, 1, "the bytes stand once in the spool");
    }
}
