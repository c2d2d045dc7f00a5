//! The command `fwpkm`.

/// Chunks allocate and free the same large arrays over and over; this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    fwpkm::command::main()
}
