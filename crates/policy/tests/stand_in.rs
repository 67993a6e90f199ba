//! What a password is held against for a login that does not exist.

mod fixture;

use fixture::{identity, source, tenant};
use mail::ScramVerifier;
use policy::Snapshot;

const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                     WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const STRONG: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g";
const WEAK: &str = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g";

fn stand_in(credentials: &[&str]) -> String {
    let mut tenant = tenant("a", &[], &["@a.example"]);
    let login = |(index, credential): (usize, &&str)| {
        let mut login = identity(&format!("login{index}"), &[]);
        login.scram = ScramVerifier::parse(credential).ok();
        login.credential = if login.scram.is_some() { String::new() } else { (*credential).to_owned() };
        login
    };
    tenant.identities = credentials.iter().enumerate().map(login).collect();
    Snapshot::compile(&source(vec![tenant])).unwrap().stand_in.credential.into()
}

#[test]
fn it_costs_what_most_credentials_cost_and_holds_no_secret_of_theirs() {
    let weak = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAA";
    assert_eq!(stand_in(&[STRONG, WEAK, SCRAM, WEAK]), weak);
    assert_eq!(stand_in(&[STRONG, WEAK, STRONG]), weak.replace("m=64,t=1", "m=19456,t=2"));
    let scram = ScramVerifier::parse(&stand_in(&[SCRAM, WEAK, SCRAM])).unwrap();
    let known = ScramVerifier::parse(SCRAM).unwrap();
    assert_eq!((scram.iterations, scram.salt), (known.iterations, known.salt));
    assert_eq!((scram.stored_key, scram.server_key), ([0; 32], [0; 32]));
    assert_eq!(stand_in(&[]), "");
}
