//! A separate process, since it runs out of descriptors.

use std::fs::File;
use std::net::TcpStream;

use ring::uring::{UringOptions, UringRing};
use ring::{Completion, Instant, ListenOptions, Ring as _, Token};

fn what_comes(ring: &mut UringRing) -> Vec<Completion> {
    let mut completions = Vec::new();
    for _ in 0..5 {
        ring.turn(Some(Instant(0)), &mut completions).expect("turns");
    }
    completions
}

#[test]
fn accepting_pauses_when_descriptors_run_out_and_goes_on_when_asked() {
    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: `limit` is read during the call only.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let mut ring = UringRing::new(UringOptions::default()).expect("this host allows io_uring");
    let token = Token::fixed(1, 1, 9);
    let address = "127.0.0.1:0".parse().expect("an address");
    let options = ListenOptions { address, shared: false, backlog: 16 };
    let (listener, address) = ring.listen(options, token).expect("listens");
    let _client = TcpStream::connect(address).expect("the backlog takes it");
    let files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();

    ring.accept(listener);
    match &what_comes(&mut ring)[..] {
        [Completion::AcceptPaused { token: which, error }] => {
            assert_eq!((*which, error.raw_os_error()), (token, Some(libc::EMFILE)));
        }
        other => panic!("unexpected {other:?}"),
    }
    drop(files);
    assert!(what_comes(&mut ring).is_empty(), "nothing is accepted unasked");
    ring.accept(listener);
    assert!(matches!(what_comes(&mut ring)[..], [Completion::Accepted { .. }]));
}
