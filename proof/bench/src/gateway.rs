use crate::{Failure, report::Report};
pub(crate) fn upstream() -> Result<(), Failure> { Ok(()) }
pub(crate) fn measure(_quick: bool) -> Result<Report, Failure> { Ok(Report::new("gateway")) }
