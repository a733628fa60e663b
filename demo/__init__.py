"""TagLoop: tag images, fix the tags, fine-tune on the fixes."""
