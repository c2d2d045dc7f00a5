//! The command `fwpkm`.

fn main() -> std::process::ExitCode {
    fwpkm::command::main()
}
