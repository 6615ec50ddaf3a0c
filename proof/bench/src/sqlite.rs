use crate::{Failure, report::Report};
#[derive(clap::Args)]
pub(crate) struct Pairs {}
pub(crate) fn pairs(_: &Pairs) -> Result<(), Failure> { Ok(()) }
pub(crate) fn measure(_quick: bool) -> Result<Report, Failure> { Ok(Report::new("sqlite")) }
