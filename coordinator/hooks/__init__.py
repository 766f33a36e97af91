"""Cases that open by themselves: alerts delivered over HTTP, told apart, put together and investigated."""
