//! What the fuzz targets share.

/// Keeps the work of the interpreter on the thread that asks for it: inputs are so small that handing them over costs more.
pub fn one_thread() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().expect("no work was done before");
}
