//! The program `drcm`: everything is in the library.

fn main() -> std::process::ExitCode {
    drcm::cli::drcm()
}
