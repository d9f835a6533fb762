"""`saccade chat`: a terminal client for servers that speak OpenAI's API."""
