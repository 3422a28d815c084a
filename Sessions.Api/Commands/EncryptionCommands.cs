using System.CommandLine;
using Sessions.Api.Engine.Sealing;
using Sessions.Api.Storage;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Commands;

/// <summary>Commands on the keys that users' texts are encrypted with.</summary>
internal static class EncryptionCommands
{
    /// <summary>Brings keys and what they seal up to date, so that former keys can be taken away.</summary>
    public static Command Rekey()
    {
        Option<bool> data = new("--data") { Description = "Also gives every user a new key, and seals everything with it" };
        const string Description =
            "Wraps all users' keys with the current master key, and seals what is not sealed yet (encryption.enabled)";
        return new Command("rekey", Description) { data }.Runs(async (input, cancellationToken) =>
        {
            await using var app = StoreCommands.Open(input);
            var sealer = app.Services.GetService<Sealer>()
                ?? throw new SettingsException("encryption.enabled is false: there is no key to wrap.");
            var rekey = new Rekey(app.Services.GetRequiredService<ISessionStore>(), sealer);
            return (await rekey.RunAsync(input.Get(data), cancellationToken)).ToString();
        });
    }
}
