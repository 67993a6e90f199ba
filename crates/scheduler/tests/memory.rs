//! What a million messages, a hundred thousand sites and a million domains take of memory, by the allocator's own count.

use std::num::NonZeroU32;
use std::time::Duration;

use mail::UnixMillis;
use scheduler::{
    Action, Event, Left, MESSAGE_BYTES_MAX, Now, Queued, RECIPIENT_BYTES_MAX, Retry, Scheduler, Settings,
    Start, Tenant, Via,
};

const SETTINGS: Settings = Settings {
    retry: Retry {
        first: Duration::from_secs(300),
        longest: Duration::from_secs(3600),
        expire: Duration::from_secs(432_000),
    },
    connections_max: 1000,
    opening_max: 2,
    messages_per_connection_max: 1000,
    addresses_tried_max: 10,
    tasks_max: 16,
    resting_max: 1024,
    lease_look: Duration::from_millis(500),
    seed: 7,
};

const MESSAGES: u32 = 1_000_000;
const SITE_BYTES_MAX: u64 = 2048;
const DOMAIN_BYTES_MAX: u64 = 200;

/// What was begun with, whatever is queued: three rings of deadlines, and the first pages.
const FIXED_BYTES_MAX: u64 = 2 << 20;

/// Bytes of a scheduler in which a million messages wait for `domains` domains, which lead to `sites`
/// sites. With `deferred` all of them wait for times of their own, and no domain was asked for.
fn bytes(sites: u32, domains: u32, deferred: bool) -> u64 {
    let now = Now { steady: 1_000_000, unix: UnixMillis(1_700_000_000_000), random: 3 };
    let mut scheduler = None;
    let info = allocation_counter::measure(|| {
        let scheduler = scheduler.insert(Scheduler::new(SETTINGS));
        for number in 0..MESSAGES {
            // No two come in the same second: the worst that the table of ages can meet.
            let arrived = UnixMillis(now.unix.0 - 1000 * u64::from(number % 400_000));
            let message = scheduler.add_message(u64::from(number), arrived, NonZeroU32::MIN);
            let domain = number % domains;
            let name = format!("customer-{domain:07}.example");
            let later = Start::Deferred(now.unix.plus(1 + u64::from(number) * 4));
            let start = if deferred { later } else { Start::Due };
            let (tenant, via) = (Tenant(domain % 100), Via::Domain(&name));
            let queued =
                Queued { message, tenant, via, routed: 0, recipients: &[Left::fresh(0)], attempts: 0, start };
            scheduler.handle(Event::Queued(queued), now);
            while let Some(action) = scheduler.poll() {
                if let Action::Resolve(domain) = action {
                    let site = format!("mx1.provider-{:06}.example", domain.0 % sites);
                    let holds = Duration::from_secs(3600);
                    scheduler.handle(Event::Resolved { domain, site: &site, holds }, now);
                }
            }
        }
        assert!(scheduler.view().site_count() >= sites);
    });
    assert_eq!(scheduler.map(|scheduler| scheduler.view().message_count()), Some(MESSAGES));
    info.bytes_current as u64
}

#[test]
fn messages_sites_and_domains_take_what_they_may() {
    let message = |bytes: u64| (bytes - FIXED_BYTES_MAX) / u64::from(MESSAGES);
    let (few, deferred) = (bytes(10, 10, false), bytes(10, 10, true));
    println!(
        "{} bytes a message of one recipient, {} of one that is deferred",
        message(few),
        message(deferred)
    );
    let most = (MESSAGE_BYTES_MAX + RECIPIENT_BYTES_MAX) as u64;
    assert!(message(few.max(deferred)) <= most, "at most {most} bytes a message");

    let domain = (bytes(10, MESSAGES, false) - few) / u64::from(MESSAGES);
    println!("{domain} bytes a domain");
    assert!(domain <= DOMAIN_BYTES_MAX, "{domain} bytes a domain");

    let site = (bytes(100_000, 100_000, false) - few) / 100_000;
    println!("{site} bytes a site with a domain");
    assert!(site <= SITE_BYTES_MAX, "{site} bytes a site, its domain included");

    let unresolved = (bytes(10, MESSAGES, true) - deferred) / u64::from(MESSAGES);
    println!("{unresolved} bytes a domain with the site that stands for it until it is resolved");
    assert!(unresolved <= SITE_BYTES_MAX, "{unresolved} bytes a domain with its site");
}
