//! Errors of a device that outlive the call they happened in.
//!
//! After some CUDA errors every further use of the device by the same process fails, or answers nonsense, until the process ends.
//! Scripts see them as exceptions like any other, so all there is to know them by is their text.

use dunnage_protocol::CallError;

/// Parts of the texts of such errors, in lower case: those of the CUDA runtime and driver, cuBLAS, cuDNN and HIP.
const LASTING: [&str; 13] = [
    "device-side assert",
    "illegal memory access",
    "illegal instruction was encountered",
    "misaligned address",
    "unspecified launch failure",
    "uncorrectable ecc error",
    "cuda_error_illegal_address",
    "cuda_error_assert",
    "cuda_error_launch_failed",
    "cublas_status_execution_failed",
    "cudnn_status_execution_failed",
    "hiperrorillegaladdress",
    "the launch timed out and was terminated",
];
/// How much of the text is repeated.
const SHOWN_CHARS: usize = 300;

/// The error's text, where it says that its process can no longer use the device. Want of memory does not: it passes.
pub(crate) fn lasting_failure(error: &CallError) -> Option<String> {
    let text = error.message.to_lowercase();
    let is_lasting = LASTING.iter().any(|part| text.contains(part));
    is_lasting.then(|| error.message.chars().take(SHOWN_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(message: &str) -> bool {
        lasting_failure(&CallError::new("script_error", message)).is_some()
    }

    #[test]
    fn errors_that_poison_the_process_are_known_by_their_text() {
        for message in [
            "RuntimeError: CUDA error: device-side assert triggered",
            "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
            "RuntimeError: CUDA error: unspecified launch failure",
            "RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
            "CUDARuntimeError: cudaErrorMisalignedAddress: misaligned address",
            "model.lua:3: uncorrectable ECC error encountered",
        ] {
            assert!(found(message), "{message}");
        }
    }

    #[test]
    fn other_errors_are_left_to_the_script() {
        for message in [
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
            "RuntimeError: CUDA error: out of memory",
            "RuntimeError: No CUDA GPUs are available",
            "ValueError: no such luck",
        ] {
            assert!(!found(message), "{message}");
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let error = CallError::new("script_error", format!("device-side assert {}", "é".repeat(1000)));
        assert_eq!(lasting_failure(&error).map(|text| text.chars().count()), Some(SHOWN_CHARS));
    }
}
