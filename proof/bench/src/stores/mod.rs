//! Stores on servers, beside the least that their own programs and drivers do for the same: in turns, on private
//! servers, as ratios.

mod postgres;
mod redis;
pub(crate) mod server;
mod tiered;

use crate::Failure;
use crate::report::Report;

const CALLERS: [u16; 3] = [1, 16, 64];

pub(crate) fn measure(quick: bool) -> Result<Report, Failure> {
    let mut report = Report::new("stores");
    let folder = tempfile::tempdir_in(std::env::current_exe()?.parent().ok_or("no folder")?)?;
    postgres::measure(&mut report, quick)?;
    if let Some(server) = server::redis(folder.path())? {
        redis::measure(&mut report, &server, quick)?;
        tiered::measure(&mut report, &server, quick)?;
    } else {
        report.notices.push("no figures for Redis: install Debian's package `redis-server`".into());
    }
    Ok(report)
}
