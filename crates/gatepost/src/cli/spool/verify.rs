//! `gatepost spool verify`: every byte against its checksum. Reads only, whether or not the gateway runs.

use std::fmt::Write as _;
use std::path::Path;

use ring::RealDisk;
use serde_json::{Value, json};
use spool::SpoolError;
use spool::inspect::{self, Verification};

use super::super::text::{NO, YES, count, print, print_json, styled};
use super::super::{Answer, Common};

pub(super) fn verify(common: &Common, directory: &Path) -> Result<Answer, SpoolError> {
    let found = inspect::verify(&mut RealDisk::default(), directory)?;
    if common.json {
        print_json(&verification_as_json(&found));
    } else {
        print(&verification_for_people(&found));
    }
    Ok(if found.is_sound() { Answer::Yes } else { Answer::No })
}

fn verification_for_people(found: &Verification) -> String {
    let mut out = String::new();
    for damage in &found.damage {
        let _ = writeln!(out, "{} {damage}", styled(NO, "damaged:"));
    }
    for path in &found.bodies_damaged {
        let path = path.display();
        let _ =
            writeln!(out, "{} {path}: a queued message's body is missing or altered", styled(NO, "damaged:"));
    }
    for (id, foreign) in &found.foreign {
        let _ = writeln!(out, "{} {id}: {foreign}", styled(NO, "refused:"));
    }
    let verdict = if found.is_sound() { styled(YES, "sound:") } else { styled(NO, "not sound:") };
    let _ = writeln!(
        out,
        "{verdict} {}, {}, {}, {}, {} of them queued",
        count(found.shards, "shard", "shards"),
        count(found.segments, "segment", "segments"),
        count(usize::try_from(found.groups).unwrap_or(usize::MAX), "group", "groups"),
        count(found.messages, "message", "messages"),
        found.queued
    );
    out
}

fn verification_as_json(found: &Verification) -> Value {
    let damage = found.damage.iter().map(
        |damage| json!({ "file": damage.path, "offset_bytes": damage.offset, "length_bytes": damage.bytes }),
    );
    let refused =
        found.foreign.iter().map(|(id, foreign)| json!({ "id": id.to_string(), "why": foreign.to_string() }));
    json!({
        "ok": found.is_sound(),
        "shards": found.shards,
        "segments": found.segments,
        "groups": found.groups,
        "messages": found.messages,
        "queued": found.queued,
        "damage": damage.collect::<Vec<_>>(),
        "bodies_damaged": found.bodies_damaged,
        "refused": refused.collect::<Vec<_>>(),
    })
}
