"""The tools that `lensmesh mcp` offers to language models, and how they are served."""
