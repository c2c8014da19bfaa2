"""Long jobs: many pictures to rows that nothing loses, on one machine or on several."""
