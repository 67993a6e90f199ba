use policy::Sourced;

use crate::error::Report;
use crate::file::File;
use crate::read::SMALL_BYTES_MAX;

/// The value of a secret: itself, or what `env:NAME` or `file:PATH` holds, without the line's end.
pub(crate) fn resolve(
    file: &File,
    key: String,
    written: &Sourced<String>,
    report: &mut Report,
) -> Option<String> {
    let (value, origin) = (written.value.as_str(), &written.origin);
    if let Some(name) = value.strip_prefix("env:") {
        return match std::env::var(name) {
            Ok(secret) => Some(secret),
            Err(_) => {
                let message = format!("the environment holds no variable {name:?}");
                report.error(origin, key, message, "set it before starting, or write the value");
                None
            }
        };
    }
    if let Some(path) = value.strip_prefix("file:") {
        let path = file.resolve(path);
        let remedy = "make the file readable to this user";
        let secret = report.read_beside(&path, SMALL_BYTES_MAX, (origin, &key), remedy)?;
        return Some(secret.trim_end_matches(['\r', '\n']).to_owned());
    }
    Some(value.to_owned())
}
