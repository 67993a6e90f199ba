//! A node file and a tenant file, parted by a form feed: read, or refused with errors that name a remedy.
#![no_main]

use std::cell::LazyCell;
use std::fs;

use config::Config;
use tempfile::TempDir;

thread_local! {
    /// In memory where the system has such a folder: it is written for every input.
    static FOLDER: LazyCell<TempDir> = LazyCell::new(|| {
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a folder can be made");
        fs::create_dir(folder.path().join("tenants")).expect("the folder can be written");
        folder
    });
}

libfuzzer_sys::fuzz_target!(|files: &str| FOLDER.with(|folder| {
    let (node, tenant) = files.split_once('\x0c').unwrap_or((files, ""));
    let path = folder.path().join("gatepost.toml");
    fs::write(&path, node).expect("the folder can be written");
    fs::write(folder.path().join("tenants/a.toml"), tenant).expect("the folder can be written");
    if let Err(errors) = Config::load(&path) {
        assert!(errors.count() > 0);
        assert!(errors.iter().all(|error| !error.remedy.is_empty()), "{errors}");
    }
}));
