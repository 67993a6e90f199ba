//! What an entry of the table costs in memory, counted by the allocator.

#[allow(dead_code, reason = "look-ups belong to the other program")]
mod table;

use policy::{Snapshot, Source};

use crate::table::{LARGEST, Size};

fn main() {
    let full = std::env::args().any(|word| word == "--bench");
    let whole = LARGEST.part(if full { 1 } else { 500 });
    println!("memory: {whole:?}; bytes that stay allocated");
    let none = Size { prefixes: 0, identities: 0, ..whole };
    let tenants = measure("tenants alone", none);
    let with_prefixes = measure("with prefixes", Size { prefixes: whole.prefixes, ..none });
    let with_identities = measure("with identities", Size { identities: whole.identities, ..none });
    for (name, entries, with) in [
        ("tenant", whole.tenants, tenants),
        ("prefix", whole.prefixes, with_prefixes - tenants),
        ("identity", whole.identities, with_identities - tenants),
    ] {
        let each = |bytes: u64| bytes as f64 / entries as f64;
        println!("  a {name:<10} {:>6.1} source {:>6.1} compiled", each(with.source), each(with.compiled));
    }
    measure("the whole table", whole);
}

/// Bytes of a configuration as it was read, and of what is compiled from it.
#[derive(Clone, Copy)]
struct Bytes {
    source: u64,
    compiled: u64,
}

impl std::ops::Sub for Bytes {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            source: self.source.saturating_sub(other.source),
            compiled: self.compiled.saturating_sub(other.compiled),
        }
    }
}

fn measure(name: &str, size: Size) -> Bytes {
    let mut source: Option<Source> = None;
    let read = allocation_counter::measure(|| source = Some(table::source(size, 1)));
    let source = source.expect("it was made");
    let mut snapshot = None;
    let made = allocation_counter::measure(|| snapshot = Snapshot::compile(&source).ok());
    assert!(snapshot.is_some(), "it compiles");
    let of = |bytes: i64| u64::try_from(bytes).expect("what is kept is not negative");
    let bytes = Bytes { source: of(read.bytes_current), compiled: of(made.bytes_current) };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "  {name}: {:.1} MiB source, {:.1} MiB compiled, {:.1} MiB at most while compiling",
        mib(bytes.source),
        mib(bytes.compiled),
        mib(of(made.bytes_max as i64))
    );
    bytes
}
