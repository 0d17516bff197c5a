"""Service desk: an agent with tools, a customer and a policy."""
