namespace Sessions.Tests;

/// <summary>The files that are shipped beside the programs.</summary>
internal static class Repository
{
    private static readonly string Root = Find();

    public static string File(params ReadOnlySpan<string> path) => Path.Combine([Root, .. path]);

    private static string Find()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!System.IO.File.Exists(Path.Combine(folder.FullName, "Sessions.sln")))
        {
            folder = folder.Parent ?? throw new InvalidOperationException("The tests don't run from within the repository.");
        }

        return folder.FullName;
    }
}
