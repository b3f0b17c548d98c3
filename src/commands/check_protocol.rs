use super::Failure;
#[derive(clap::Args)]
pub(crate) struct Args {
    name: String,
}
pub(crate) fn command(_args: &Args) -> Result<(), Failure> {
    Err(Failure::Silent)
}
