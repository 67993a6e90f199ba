//! A queue that has grown: what a message costs beside it, what it takes in memory, and how long a start takes.
//!
//! Gatepost gets its mail from smtp-source like everyone else, with its next hop down. Postfix holds a
//! smaller backlog, the cheapest that it can do with mail that must not leave; the table says how many.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use testbed::gateway::http_get;
use testbed::net::eventually;
use testbed::postfix::Postfix;
use testbed::{Configuration, Dialog, Gateway};

use crate::meter::{Meter, tree_bytes};
use crate::servers::{generate, start_postfix};
use crate::{Options, replies};

/// Messages by which the cost of one is measured.
const MEASURED: u64 = 20_000;

/// How often it is measured at each of two gateways in turn: what the machine does beside it changes.
const ROUNDS: usize = 5;

/// How long the gateway is asked with nothing beside it.
const QUIET: Duration = Duration::from_secs(3);

/// A start that takes longer than this is no start.
const START_MAX: Duration = Duration::from_secs(300);

/// Builds a backlog of `messages` and prints what was found; 0 for Postfix alone.
pub(crate) fn run(options: &Options, binary: &Path, messages: u64, postfix: u64) -> Result<(), String> {
    if messages > 0 {
        quick_start(options, binary)?;
        gatepost(options, binary, messages)?;
    }
    if postfix > 0 {
        measure_postfix(options, postfix)?;
    }
    Ok(())
}

fn gatepost(options: &Options, binary: &Path, messages: u64) -> Result<(), String> {
    let meter = Meter::new();
    let start_one = || {
        let mut configuration = Configuration::relay(testbed::net::free_address());
        configuration.capacity = "64GiB".into();
        configuration.node_extra = "[retry]\nfirst = \"5m\"\nlongest = \"1h\"\nexpire = \"5d\"\n\n\
                                    [admin]\nsocket = \"admin.sock\"\n"
            .into();
        Gateway::start_under(binary, configuration, meter.wrapper())
    };
    let send = |gateway: &Gateway, count: u64| -> Result<f64, String> {
        let before = meter.cpu_micros(gateway.pid())?;
        generate(options, gateway.smtp(), count, true)?;
        Ok((meter.cpu_micros(gateway.pid())? - before) as f64 / count as f64)
    };
    let mut gateway = start_one();
    let idle = tree_bytes(gateway.pid());
    // Segments are there before anything is measured.
    send(&gateway, 2000)?;
    let first = tree_bytes(gateway.pid());
    let begin = Instant::now();
    send(&gateway, messages - 2000)?;
    let filled = begin.elapsed();
    let other = start_one();
    send(&other, 2000)?;
    let (mut short, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        short.push(send(&other, MEASURED)?);
        beside.push(send(&gateway, MEASURED)?);
    }
    drop(other);
    let full = tree_bytes(gateway.pid());
    let queued = messages + ROUNDS as u64 * MEASURED;
    println!(
        "Gatepost, {queued} messages of {} bytes queued ({messages} of them in {:.0} s):",
        options.bytes,
        filled.as_secs_f64()
    );
    let (median_short, median_beside) = (median(&mut short), median(&mut beside));
    println!(
        "  CPU of a message: {median_beside:.1} us beside the backlog ({beside:.1?}), {median_short:.1} us at a \
         gateway with a short queue in turn ({short:.1?}): {:+.0}%",
        (median_beside / median_short - 1.0) * 100.0
    );
    println!(
        "  memory: {} MiB idle, {} MiB after the first 2,000, {} MiB with all of them: {:.0} bytes a message",
        idle >> 20,
        first >> 20,
        full >> 20,
        (full.saturating_sub(idle)) as f64 / queued as f64
    );
    let used = gateway.metric("gatepost_spool_bytes");
    println!("  spool: {:.0} MiB, {:.0} bytes a message", used / 1048576.0, used / queued as f64);
    let ((), alone) = replies::beside(gateway.smtp(), || thread::park_timeout(QUIET));
    println!("  a NOOP is answered in: {alone}");
    let (listed, beside) = replies::beside(gateway.smtp(), || list(&gateway, binary));
    println!("  {}; a NOOP beside it is answered in: {beside}", listed?);
    measure_starts(&mut gateway)
}

/// Ends the gateway in each way and starts it again.
fn measure_starts(gateway: &mut Gateway) -> Result<(), String> {
    for (how, is_clean, is_cold) in
        [("SIGKILL, cold cache", false, true), ("SIGKILL", false, false), ("SIGTERM", true, false)]
    {
        if is_clean {
            gateway.terminate();
        } else {
            gateway.kill();
        }
        if is_cold {
            forget_files();
        }
        let start = start(gateway)?;
        // The first turn of the worker counts the queue.
        let counted = eventually(START_MAX, || gateway.metric("gatepost_spool_messages") > 0.0);
        println!(
            "  start after {how}: ready in {:.2} s, then {} MiB; {:.0} messages queued",
            start.as_secs_f64(),
            tree_bytes(gateway.pid()) >> 20,
            if counted { gateway.metric("gatepost_spool_messages") } else { 0.0 }
        );
    }
    Ok(())
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Lists all of the queue; says how long that took.
fn list(gateway: &Gateway, binary: &Path) -> Result<String, String> {
    let begin = Instant::now();
    let output = Command::new(binary)
        .args(["spool", "list", "--json", "--config"])
        .arg(gateway.config_path())
        .output()
        .map_err(|error| format!("{}: {error}", binary.display()))?;
    if !output.status.success() {
        return Err(format!("spool list: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let lines = output.stdout.iter().filter(|&&byte| byte == b'\n').count();
    Ok(format!("spool list: {lines} lines in {:.1} s", begin.elapsed().as_secs_f64()))
}

/// A start with a queue of ten thousand, after a stop in order.
fn quick_start(options: &Options, binary: &Path) -> Result<(), String> {
    let meter = Meter::new();
    let mut configuration = Configuration::relay(testbed::net::free_address());
    configuration.capacity = "4GiB".into();
    let mut gateway = Gateway::start_under(binary, configuration, meter.wrapper());
    let mut empty = Vec::new();
    for _ in 0..3 {
        gateway.terminate();
        empty.push(start(&mut gateway)?.as_secs_f64());
    }
    generate(options, gateway.smtp(), 10_000, true)?;
    let mut times = Vec::new();
    for _ in 0..5 {
        gateway.terminate();
        times.push(start(&mut gateway)?.as_secs_f64());
    }
    println!(
        "start with 10,000 queued after a clean stop: {times:.3?} s; with none: {empty:.3?} s (process start, tables and listeners included)"
    );
    Ok(())
}

fn start(gateway: &mut Gateway) -> Result<Duration, String> {
    let begin = Instant::now();
    gateway.spawn();
    let address = gateway.configuration().metrics;
    while begin.elapsed() < START_MAX {
        if http_get(address, "/readyz").is_some_and(|(code, _)| code == 200) {
            return Ok(begin.elapsed());
        }
        thread::park_timeout(Duration::from_millis(2));
    }
    Err("the gateway is not ready in time".to_owned())
}

/// Drops the page cache, where that is allowed; then a start reads from the disk.
fn forget_files() {
    let _ = Command::new("sync").status();
    if fs::write("/proc/sys/vm/drop_caches", "3").is_err() {
        println!("  (the page cache could not be dropped: not cold)");
    }
}

fn measure_postfix(options: &Options, messages: u64) -> Result<(), String> {
    let meter = Meter::new();
    let mut postfix = start_postfix(None, &meter.wrapper())?;
    let send = |postfix: &Postfix, count: u64| -> Result<f64, String> {
        let before = meter.cpu_micros(postfix.master())?;
        generate(options, postfix.address(), count, true)?;
        Ok((meter.cpu_micros(postfix.master())? - before) as f64 / count as f64)
    };
    send(&postfix, 500)?;
    let idle = tree_bytes(postfix.master());
    let empty = send(&postfix, 2000)?;
    let begin = Instant::now();
    send(&postfix, messages)?;
    let filled = begin.elapsed().as_secs_f64();
    let beside = send(&postfix, 2000)?;
    let full = tree_bytes(postfix.master());
    println!("Postfix, {messages} messages held (in {filled:.0} s):");
    println!("  CPU of a message: {empty:.0} us with a short queue, {beside:.0} us beside the backlog");
    println!("  memory: {} MiB, then {} MiB (its queue is files)", idle >> 20, full >> 20);
    let begin = Instant::now();
    let listed = postfix.listed()?;
    println!("  postqueue: {listed} lines in {:.1} s", begin.elapsed().as_secs_f64());
    postfix.stop()?;
    forget_files();
    let begin = Instant::now();
    postfix.start_again(&meter.wrapper())?;
    Dialog::hello(postfix.address()).command("QUIT", 221);
    println!(
        "  start with a cold cache, to the first reply: {:.2} s (mail on hold is not read by it)",
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}
