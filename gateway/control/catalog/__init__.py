"""What control keeps of models beside traffic: registration, uploads, serving layouts, memory budget, loading on demand."""
