"""What p(bright picture | dark picture) tells beside a picture."""
