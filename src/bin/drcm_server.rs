//! The program `drcm_server`: everything is in the library.

fn main() -> std::process::ExitCode {
    drcm::cli::drcm_server()
}
