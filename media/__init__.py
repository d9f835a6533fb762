"""Media planning, fetching and decoding. Host work only: knows nothing of vLLM or HTTP servers."""
