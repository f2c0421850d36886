use std::process::ExitCode;

fn main() -> ExitCode {
    portway::cli::main()
}
