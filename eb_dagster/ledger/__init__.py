"""What was asked, what was answered and what it cost: durable, and the coordinator of all processes."""
